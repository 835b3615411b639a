//! Which store is meant, and what its refusals mean for the exit code.
//!
//! Owns: the choice, and the mapping of errors. Does not: read or change objects.
//! Invariant: `--store`, `--kubeconfig` and `--context` win over `TORTIE_STORE`; without any it is the cluster that kubectl
//! would take.

use anyhow::anyhow;
use tortie_store::dir::{Directory, DirectoryError};
use tortie_store::kube::{Access, Cluster, ClusterError};
use tortie_store::objects::{Dry, Objects, ObjectsError};

use crate::args::{Global, StoreAddress};
use crate::exit::Failure;

/// Who our writes come from, in `managedFields`.
const FIELD_MANAGER: &str = "tortie-cli";

/// The store that is meant.
pub fn objects(global: &Global, dry: Dry) -> Result<Objects, Failure> {
    if let Some(StoreAddress::Dir(path)) = &global.store {
        let directory = Directory::new(path).map_err(|error| failure(error.into()))?;
        return Ok(Objects::Directory(directory));
    }
    Ok(Objects::Cluster(Box::new(cluster(global, dry)?)))
}

/// The cluster that is meant.
pub fn cluster(global: &Global, dry: Dry) -> Result<Cluster, Failure> {
    let named = match &global.store {
        Some(StoreAddress::Kube(path)) => path.clone(),
        _ => None,
    };
    let mut access = Access::new(global.kubeconfig.clone().or(named));
    access.context.clone_from(&global.context);
    let cluster = Cluster::connect(access).map_err(|error| failure(error.into()))?;
    Ok(cluster.with_field_manager(FIELD_MANAGER).with_dry_run(dry == Dry::Server))
}

/// Which kind of failure it is.
pub fn failure(error: ObjectsError) -> Failure {
    let class: fn(anyhow::Error) -> Failure =
        match &error {
            ObjectsError::Directory(
                DirectoryError::Read { cause, .. } | DirectoryError::Write { cause, .. },
            ) if cause.kind() == std::io::ErrorKind::PermissionDenied => Failure::NotAllowed,
            ObjectsError::Directory(DirectoryError::Conflict { .. }) => Failure::No,
            ObjectsError::Directory(_) => Failure::Unreachable,
            ObjectsError::Cluster(error) => class_of(error),
            ObjectsError::Missing { .. } | ObjectsError::Exists { .. } | ObjectsError::Changed { .. } => {
                Failure::No
            }
            ObjectsError::UnknownKind { .. } => Failure::BadInput,
        };
    match &error {
        ObjectsError::Cluster(ClusterError::Configuration { .. }) => {
            class(anyhow!("{error}; or name a directory with --store dir:PATH or TORTIE_STORE"))
        }
        _ => class(error.into()),
    }
}

fn class_of(error: &ClusterError) -> fn(anyhow::Error) -> Failure {
    match error.code() {
        Some(401 | 403) => Failure::NotAllowed,
        Some(400 | 413 | 415 | 422) => Failure::BadInput,
        // The server is there, and has too much to do or nobody behind it.
        Some(429 | 502 | 503 | 504) => Failure::Unreachable,
        Some(_) => Failure::No,
        None if matches!(error, ClusterError::NotServed { .. }) => Failure::No,
        None => Failure::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_store::kube::Refusal;

    #[test]
    fn what_is_not_there_is_a_no_and_what_cannot_be_reached_is_not() {
        let missing = ObjectsError::Missing { object: "pods \"x\"".into() };
        assert!(matches!(failure(missing), Failure::No(_)));
        let away =
            ClusterError::Unreachable { server: "https://192.0.2.1".into(), cause: "timed out".into() };
        assert!(matches!(failure(away.into()), Failure::Unreachable(_)));
        let unknown = ClusterError::NotServed { kind: "Tier.projectcalico.org".into() };
        assert!(matches!(failure(unknown.into()), Failure::No(_)));
        let refused = |code| {
            let (reason, message) = (String::new(), "no".to_owned());
            failure(ClusterError::Refused(Refusal { code, reason, message, retry_after: None }).into())
        };
        assert!(matches!(refused(500), Failure::No(_)), "it was reached, and said no");
        assert!(matches!(refused(503), Failure::Unreachable(_)));
        let nothing = ClusterError::Configuration { source_of: "kubeconfig".into(), cause: "none".into() };
        let told = failure(nothing.into()).to_string();
        assert!(told.contains("--store dir:PATH") && told.contains("KUBECONFIG"), "{told}");
    }
}
