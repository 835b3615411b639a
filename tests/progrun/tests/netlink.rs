//! The agent's conversation with the routing socket, beside others who have theirs. Needs root.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::{Handle, RouteMessageBuilder, new_connection};
use tokio::runtime::Builder;
use tortie_host::netlink::{Netlink, NetworkEvent};

fn run<T>(task: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_io().build().expect("a runtime").block_on(task)
}

/// A socket of somebody else, whose first request has the number of everybody's first request.
fn another() -> Handle {
    let (connection, handle, _) = new_connection().expect("a routing socket");
    tokio::spawn(connection);
    handle
}

#[test]
fn what_others_change_is_an_event_and_not_the_answer_to_a_request_of_the_same_number() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
    let enough = Arc::new(AtomicBool::new(false));
    // A thread is in the namespace of the one that starts it.
    let other = thread::spawn({
        let enough = enough.clone();
        move || {
            let mut changes = 0;
            while !enough.load(Ordering::Relaxed) {
                run(async {
                    let route = RouteMessageBuilder::<Ipv4Addr>::new()
                        .destination_prefix(Ipv4Addr::new(192, 0, 2, 1), 32)
                        .kind(RouteType::BlackHole);
                    match changes % 2 {
                        0 => another().route().add(route.build()).execute().await,
                        _ => another().route().del(route.build()).execute().await,
                    }
                    .expect("changing a route");
                });
                changes += 1;
            }
            changes
        }
    });
    let (start, mut lists, mut told) = (Instant::now(), 0, 0);
    while start.elapsed() < Duration::from_secs(3) {
        run(async {
            let (netlink, mut events) = Netlink::open().expect("a routing socket");
            let devices = netlink.devices().await.expect("listing interfaces");
            let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
            assert_eq!(names, ["lo"], "after {lists}");
            told += u32::from(matches!(events.try_next(), Some(NetworkEvent::Routing)));
        });
        lists += 1;
    }
    enough.store(true, Ordering::Relaxed);
    let changes = other.join().expect("the other");
    println!("{lists} lists beside {changes} changes, {told} with an event at once");
    assert!(lists > 100 && changes > 100 && told > 0, "{lists} {changes} {told}");
}
