//! Which pods: selectors in a normal form.
//!
//! Owns: [`Query`]. Does not: know objects; see `index`.
//! Invariant: selectors that were written differently but ask the same tests are equal queries.

use std::collections::BTreeSet;
use tortie_model::NamespaceName;
use tortie_model::selector::{Operator, Selector};

/// Whose label a test is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Of {
    /// The pod's.
    Pod,
    /// Its namespace's. The empty key, which no label has, is there when the namespace is known.
    Namespace,
}

/// One test on one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    pub(crate) of: Of,
    pub(crate) key: String,
    pub(crate) operator: Operator,
}

impl Test {
    /// Whether a label with this value passes; `None`: no such label.
    pub(crate) fn passes(&self, value: Option<&str>) -> bool {
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.contains(v)),
            Operator::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }

    /// Values that the test tells apart from others.
    pub(crate) fn values(&self) -> Option<&BTreeSet<String>> {
        match &self.operator {
            Operator::In(values) | Operator::NotIn(values) => Some(values),
            Operator::Exists | Operator::DoesNotExist => None,
        }
    }
}

/// All tests must pass; no tests: every pod, of one namespace or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Query {
    namespace: Option<NamespaceName>,
    /// Sorted, each once.
    tests: Vec<Test>,
}

impl Query {
    /// Every pod.
    pub(crate) fn everyone() -> Self {
        Self::default()
    }

    /// Pods of one namespace.
    pub(crate) fn within(namespace: &NamespaceName, pods: &Selector) -> Self {
        Self { namespace: Some(namespace.clone()), ..Self::of(tests(Of::Pod, pods)) }
    }

    /// Pods of all namespaces with these labels. A namespace that is not known has none of them, whatever
    /// the selector says about absent labels.
    pub(crate) fn across(namespaces: &Selector, pods: &Selector) -> Self {
        let known = Test { of: Of::Namespace, key: String::new(), operator: Operator::Exists };
        Self::of(tests(Of::Pod, pods).chain(tests(Of::Namespace, namespaces)).chain([known]))
    }

    fn of(tests: impl Iterator<Item = Test>) -> Self {
        let tests: BTreeSet<Test> = tests.collect();
        Self { namespace: None, tests: tests.into_iter().collect() }
    }

    /// The only namespace whose pods can match.
    pub(crate) fn namespace(&self) -> Option<&NamespaceName> {
        self.namespace.as_ref()
    }

    /// Its tests.
    pub(crate) fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// The test by which matching objects are found: one that no object without the label passes, the
    /// narrowest by its looks.
    pub(crate) fn anchor(&self) -> Option<&Test> {
        let rank = |test: &&Test| match (&test.operator, test.of) {
            (Operator::In(values), Of::Pod) => Some((0, values.len())),
            (Operator::In(values), Of::Namespace) => Some((1, values.len())),
            (Operator::Exists, Of::Pod) => Some((2, 0)),
            (Operator::Exists, Of::Namespace) => Some((3, usize::from(test.key.is_empty()))),
            (Operator::NotIn(_) | Operator::DoesNotExist, _) => None,
        };
        self.tests.iter().filter(|test| rank(test).is_some()).min_by_key(rank)
    }
}

fn tests(of: Of, selector: &Selector) -> impl Iterator<Item = Test> {
    let exact = selector.match_labels.iter().map(move |(key, value)| Test {
        of,
        key: key.clone(),
        operator: Operator::In(BTreeSet::from([value.clone()])),
    });
    let further = selector.match_expressions.iter().map(move |requirement| Test {
        of,
        key: requirement.key.clone(),
        operator: requirement.operator.clone(),
    });
    exact.chain(further)
}
