//! Names of objects.

use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[doc = $doc:literal])+ $type:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// From a validated name.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $type {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }
    };
}

name! {
    /// A namespace.
    NamespaceName
}
name! {
    /// A node.
    NodeName
}

macro_rules! namespaced {
    ($(#[doc = $doc:literal])+ $type:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type {
            /// Namespace.
            pub namespace: NamespaceName,
            /// Name within the namespace.
            pub name: Arc<str>,
        }

        impl $type {
            /// From a namespace and a name.
            pub fn new(namespace: impl Into<NamespaceName>, name: impl Into<Arc<str>>) -> Self {
                Self { namespace: namespace.into(), name: name.into() }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.namespace, self.name)
            }
        }
    };
}

namespaced! {
    /// A workload: a pod that has its own network namespace.
    WorkloadId
}
namespaced! {
    /// A Service.
    ServiceId
}
/// What the names of pods begin with where Services are named. No Service's name has a slash.
const POD: &str = "pod/";

impl ServiceId {
    /// The ports that a pod has at its node, which are served like a Service's.
    pub fn of_pod(pod: &WorkloadId) -> Self {
        Self { namespace: pod.namespace.clone(), name: format!("{POD}{}", pod.name).into() }
    }

    /// The pod whose ports these are; `None`: it is a Service.
    pub fn pod(&self) -> Option<WorkloadId> {
        let name = self.name.strip_prefix(POD)?;
        Some(WorkloadId { namespace: self.namespace.clone(), name: name.into() })
    }
}

namespaced! {
    /// An EndpointSlice.
    SliceId
}
namespaced! {
    /// A Kubernetes NetworkPolicy.
    PolicyId
}
