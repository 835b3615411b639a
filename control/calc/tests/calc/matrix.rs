//! Random clusters of two nodes: who reaches whom is what the documentation says.

use crate::support::build::*;
use crate::support::bytes::{Op, decode};
use crate::support::connectivity::{Nodes, Party};
use crate::support::expand::finals;
use proptest::prelude::*;
use std::sync::Arc;
use tortie_model::{NodeName, Object};

/// Pods of random histories, each given a node and an address of its own, which nothing else has.
fn settled(data: &[u8]) -> Vec<Object> {
    let ops = decode(data).into_iter();
    let changes: Vec<Object> = ops
        .filter_map(|op| match op {
            Op::Change(object) => Some(*object),
            Op::Flush | Op::InSync => None,
        })
        .collect();
    let mut number = 0u8;
    let of_addresses = |object: &Object| {
        matches!(
            object,
            Object::Attachment(_) | Object::OwnAddresses(_) | Object::Ranges(_) | Object::Pool(_)
        )
    };
    let kept = finals(&changes).into_iter().filter(|object| !of_addresses(object));
    kept.map(|object| match object {
        Object::Workload(mut change) => {
            number += 1;
            if let Some(pod) = change.value.as_mut().map(Arc::make_mut) {
                let node = 1 + number % 2;
                pod.node = Some(NodeName::from(format!("n{node}").as_str()));
                pod.addresses = ips(&format!("10.0.{node}.{number} fd00::10:0:{node}:{number}"));
                pod.reported = true;
                pod.host_network = false;
            }
            Object::Workload(change)
        }
        other => other,
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_reaches_whom_is_what_the_documentation_says(data in prop::collection::vec(any::<u8>(), 200..2000)) {
        let objects = settled(&data);
        let nodes = Nodes::new(&["n1", "n2"], |node| {
            let attachments = objects.iter().filter_map(|object| match object {
                Object::Workload(c) => {
                    let pod = PodBuilder(c.key.clone(), c.value.as_deref()?.clone());
                    (pod.1.node == Some(NodeName::from(node))).then(|| pod.attachment())
                }
                _ => None,
            });
            objects.iter().cloned().chain(attachments).collect()
        });
        for family in 0..2 {
            let mut parties = vec![Party::outside("out", ["192.0.2.1", "2001:db8::1"][family])];
            for object in &objects {
                if let Object::Workload(c) = object && let Some(pod) = &c.value {
                    parties.push(Party {
                        name: c.key.to_string(),
                        address: pod.addresses[family],
                        pod: pod.node.as_ref().map(|node| (c.key.clone(), node.to_string())),
                    });
                }
            }
            for (from, to) in parties.iter().flat_map(|from| parties.iter().map(move |to| (from, to))) {
                for (protocol, port) in [(6, 53), (6, 80), (6, 81), (6, 500), (17, 53), (132, 80), (1, 0)] {
                    prop_assert_eq!(
                        nodes.connects(from, to, protocol, port),
                        nodes.should_connect(from, to, protocol, port),
                        "{:?} to {:?}, protocol {}, port {}: {:#?}", from, to, protocol, port, objects
                    );
                }
            }
        }
    }
}
