//! Content negotiation: what a body is, and in which form the client wants the answer.

use http::{HeaderMap, header};
use pintle_api::decode::Syntax;
use pintle_api::status::Status;

use crate::protobuf::PROTOBUF;

/// The form of an answer; all are JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The object or list itself.
    Object,
    /// `meta.k8s.io/v1` PartialObjectMetadata or its list.
    Metadata,
    /// `meta.k8s.io/v1` Table.
    Table,
}

/// The first media type of `Accept` that is served.
pub(crate) fn form(headers: &HeaderMap) -> Result<Form, Status> {
    let mut any = false;
    for accept in headers.get_all(header::ACCEPT) {
        for range in accept.to_str().unwrap_or_default().split(',') {
            any = true;
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            if !matches!(media, "" | "*/*" | "application/*" | "application/json") {
                continue;
            }
            let mut kind = "";
            let mut version = "";
            for parameter in parts {
                match parameter.split_once('=') {
                    Some(("as", value)) => kind = value,
                    Some(("v", value)) => version = value,
                    _ => {}
                }
            }
            match (kind, version) {
                ("", _) => return Ok(Form::Object),
                ("Table", "v1") => return Ok(Form::Table),
                ("PartialObjectMetadata" | "PartialObjectMetadataList", "v1") => {
                    return Ok(Form::Metadata);
                }
                _ => {}
            }
        }
    }
    if any { Err(Status::not_acceptable(&["application/json"])) } else { Ok(Form::Object) }
}

/// The syntax of a body that is an object.
pub(crate) fn syntax(headers: &HeaderMap) -> Result<Syntax, Status> {
    match media_type(headers) {
        "" | "application/json" => Ok(Syntax::Json),
        "application/yaml" => Ok(Syntax::Yaml),
        // Protobuf of a kind that is known has become JSON before.
        _ => {
            Err(Status::unsupported_media_type(&["application/json", "application/yaml", PROTOBUF]))
        }
    }
}

/// `Content-Type` without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &'static str) -> Result<Form, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().unwrap());
        form(&headers)
    }

    #[test]
    fn the_first_served_media_type_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                     application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(table), Ok(Form::Table));
        assert_eq!(
            accept("application/vnd.kubernetes.protobuf,application/json"),
            Ok(Form::Object)
        );
        assert_eq!(accept("application/vnd.kubernetes.protobuf, */*"), Ok(Form::Object));
        let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(accept(partial), Ok(Form::Metadata));
        assert_eq!(accept("application/vnd.kubernetes.protobuf").unwrap_err().code(), 406);
        assert_eq!(form(&HeaderMap::new()), Ok(Form::Object));
    }
}
