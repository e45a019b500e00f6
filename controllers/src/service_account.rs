//! The ServiceAccount controller: a ServiceAccount `default` in every namespace that is not going.
//!
//! Mirrors serviceaccounts_controller.go. Tokens are not here.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use pintle_client::{Informer, ObjectKey};

use crate::Error;
use crate::work_queue::WorkQueue;
use crate::worker::Sync;

/// Works on namespaces.
pub(crate) struct ServiceAccountController {
    pub(crate) client: Client,
    pub(crate) namespaces: Informer<Namespace>,
    pub(crate) queue: WorkQueue<ObjectKey>,
    pub(crate) service_accounts: Informer<ServiceAccount>,
}

impl ServiceAccountController {
    /// Let new namespaces and deleted ServiceAccounts queue their namespace.
    pub(crate) fn subscribe(&self) {
        let queue = self.queue.clone();
        self.namespaces.on_change(move |change| queue.add(ObjectKey::of(&**change.latest())));
        let queue = self.queue.clone();
        self.service_accounts.on_change(move |change| {
            let namespace = change.latest().metadata.namespace.as_deref();
            if change.new.is_none() {
                queue.add(ObjectKey::cluster(namespace.unwrap_or_default()));
            }
        });
    }
}

impl Sync for ServiceAccountController {
    const NAME: &'static str = "serviceaccount";

    async fn sync(&self, key: &ObjectKey) -> Result<(), Error> {
        let namespace = self.namespaces.get(key);
        let default = ObjectKey::new(&key.name, DEFAULT);
        let present = self.service_accounts.get(&default).is_some();
        if !needs_default(namespace.as_deref(), present) {
            return Ok(());
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.name);
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(DEFAULT.to_owned()),
                namespace: Some(key.name.clone()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        let created = api.create(&PostParams::default(), &account).await;
        match created.map_err(Error::api(format!("create service account {default}"))) {
            Err(error) if !error.is_conflict() && !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

fn needs_default(namespace: Option<&Namespace>, present: bool) -> bool {
    let terminating = |namespace: &Namespace| {
        let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
        namespace.metadata.deletion_timestamp.is_some() || phase == Some("Terminating")
    };
    !present && namespace.is_some_and(|namespace| !terminating(namespace))
}

const DEFAULT: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn living_namespaces_without_one_get_one() {
        let living = Namespace::default();
        let mut going = Namespace::default();
        going.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        assert!(needs_default(Some(&living), false));
        assert!(!needs_default(Some(&living), true));
        assert!(!needs_default(Some(&going), false));
        assert!(!needs_default(None, false));
    }
}
