//! Any object as its metadata alone, of a kind known at run time.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicResourceScope;
use kube::{Api, Client};
use pintle_api::scheme::{RESOURCES, Resource};
use serde::Deserialize;

/// What the garbage collector and the namespace controller read of an object. The rest is skipped
/// while decoding, so caches of stubs stay small.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Stub {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
}

impl kube::Resource for Stub {
    type DynamicType = &'static Resource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &Self::DynamicType) -> Cow<'_, str> {
        resource.kind.name().into()
    }

    fn group(resource: &Self::DynamicType) -> Cow<'_, str> {
        resource.group().into()
    }

    fn version(resource: &Self::DynamicType) -> Cow<'_, str> {
        resource.version().into()
    }

    fn plural(resource: &Self::DynamicType) -> Cow<'_, str> {
        resource.plural.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The API of one kind in one namespace; the namespace of a cluster-scoped kind is empty.
pub(crate) fn api(client: &Client, resource: &'static Resource, namespace: &str) -> Api<Stub> {
    if resource.namespaced {
        return Api::namespaced_with(client.clone(), namespace, &resource);
    }
    Api::all_with(client.clone(), &resource)
}

/// The served resources that can be asked for all of `verbs`.
pub(crate) fn served(verbs: &[&str]) -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().filter(move |resource| verbs.iter().all(|verb| resource.verbs.contains(verb)))
}
