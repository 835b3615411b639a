//! The agent's conversation with the routing socket, beside others who have theirs. Needs root.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::{Handle, LinkMessageBuilder, LinkVeth, RouteMessageBuilder, new_connection};
use tokio::runtime::Builder;
use tortie_host::netlink::{Netlink, NetworkEvent, Via};

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

/// The network of an interface and the way out are the kernel's and the administrator's, whatever a Node says of its prefix.
#[test]
fn a_route_of_somebody_else_to_the_same_prefix_stays_and_is_named() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
    run(async {
        let handle = another();
        let pair = LinkMessageBuilder::<LinkVeth>::new("net0", "net1").up().build();
        handle.link().add(pair).execute().await.expect("an interface");
        let (netlink, _events) = Netlink::open().expect("a routing socket");
        let devices = netlink.devices().await.expect("listing interfaces");
        let index = devices.iter().find(|device| device.name == "net0").expect("made").index;
        netlink.add_address(index, [192, 0, 2, 1].into(), 24).await.expect("an address");
        let way_out = RouteMessageBuilder::<Ipv4Addr>::new().gateway([192, 0, 2, 254].into()).build();
        handle.route().add(way_out).execute().await.expect("a way out");
        let by = |last: u8| Via::Gateway([192, 0, 2, last].into());
        let net = |text: &str| text.parse().expect("a prefix");

        for (prefix, owner) in [("192.0.2.0/24", "kernel"), ("0.0.0.0/0", "static")] {
            let error = netlink.set_route(net(prefix), None, by(9)).await.expect_err(prefix);
            assert!(error.to_string().contains(&format!("(protocol {owner})")), "{error}");
        }
        let far = [203, 0, 113, 1].into();
        let way = netlink.reach(far).await.expect("an answer").expect("a way");
        assert_eq!(way.neighbour, IpAddr::from([192, 0, 2, 254]), "the way out is as it was");
        let near = [192, 0, 2, 77].into();
        assert_eq!(netlink.reach(near).await.expect("an answer").expect("a way").neighbour, near);
        assert!(netlink.routes().await.expect("listing routes").is_empty());

        let pods = net("10.65.1.0/24");
        netlink.set_route(pods, None, by(9)).await.expect("a route");
        netlink.set_route(pods, Some(by(9)), by(8)).await.expect("another neighbour");
        netlink.set_route(pods, None, by(8)).await.expect("it is there, and ours");
        assert_eq!(netlink.routes().await.expect("listing routes"), [(pods, by(8))].into());
    });
}
