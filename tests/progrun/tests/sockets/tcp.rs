//! TCP.

use crate::rig::{Form, Rig, TCP};
use nix::errno::Errno;
use nix::sys::socket::{SockaddrStorage, connect as nix_connect};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

#[test]
fn a_connection_reaches_a_back_end_and_getpeername_says_the_service() {
    let rig = Rig::new();
    rig.netns.run(|| {
        for form in Form::ALL {
            let (listener, backend) = form.listener();
            let vip = form.vip(10, 80);
            rig.service(vip, TCP, &[backend]);
            let mut client = TcpStream::connect(form.dress(vip)).unwrap_or_else(|e| panic!("{form:?}: {e}"));
            let (mut server, seen) = listener.accept().expect("accept");
            assert_eq!(client.peer_addr().expect("getpeername"), form.dress(vip), "{form:?}");
            // The server is told the client's own address, by accept and by getpeername.
            let own = client.local_addr().expect("getsockname");
            assert_eq!((form.dress(seen), form.dress(server.peer_addr().unwrap())), (own, own), "{form:?}");
            client.write_all(b"ping").expect("write");
            let mut bytes = [0; 4];
            server.read_exact(&mut bytes).expect("read");
            assert_eq!(&bytes, b"ping");
            assert_eq!(rig.leads(form), (1, 0));
            drop(client);
            assert_eq!(rig.leads(form), (0, 0), "{form:?}: nothing is left of a closed socket");
        }
    });
}

#[test]
fn a_socket_whose_place_is_taken_is_remembered_elsewhere() {
    let rig = Rig::new();
    rig.netns.run(|| {
        for form in Form::ALL {
            let (_listener, backend) = form.listener();
            let vip = form.vip(16, 80);
            rig.service(vip, TCP, &[backend]);
            let connect = || TcpStream::connect(form.dress(vip)).expect("connect");
            let told = |client: &TcpStream| client.peer_addr().expect("getpeername") == form.dress(vip);
            rig.set_places(form, true);
            let clients = [connect(), connect(), connect()];
            assert_eq!((rig.entries(form.rest()), rig.others(form)), (3, 3), "{form:?}");
            assert!(clients.iter().all(told), "{form:?}");
            let [first, ..] = &clients;
            let again = nix_connect(first.as_raw_fd(), &SockaddrStorage::from(form.dress(vip)));
            assert_eq!(again, Err(Errno::EISCONN), "{form:?}");
            assert_eq!((rig.entries(form.rest()), rig.others(form)), (3, 3), "{form:?}: once each");
            assert!(told(first), "{form:?}");
            drop(clients);
            assert_eq!((rig.entries(form.rest()), rig.others(form)), (0, 0), "{form:?}");
            rig.set_places(form, false);
            let client = connect();
            assert_eq!((rig.leads(form), told(&client)), ((1, 0), true), "{form:?}");
        }
    });
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let rig = Rig::new();
    rig.netns.run(|| {
        for form in Form::ALL {
            let vip = form.vip(11, 80);
            rig.service(vip, TCP, &[]);
            let start = Instant::now();
            let error = TcpStream::connect(form.dress(vip)).expect_err("nobody serves");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{form:?}: {error}");
            assert!(start.elapsed() < Duration::from_millis(500));
        }
    });
    assert_eq!(rig.entries("counter"), 1, "refusals are counted under one hook and reason");
}

#[test]
fn a_socket_that_was_refused_tells_its_next_peer_by_its_own_address_and_leaves_nothing_behind() {
    let rig = Rig::new();
    rig.netns.run(|| {
        for form in Form::ALL {
            let (closed, gone) = form.listener();
            drop(closed);
            let (_listener, other) = form.listener();
            let vip = form.vip(15, 80);
            rig.service(vip, TCP, &[gone]);
            let socket = form.socket();
            let connect = |to| nix_connect(socket.as_raw_fd(), &SockaddrStorage::from(form.dress(to)));
            assert_eq!(connect(vip), Err(Errno::ECONNREFUSED), "{form:?}");
            assert_eq!(rig.leads(form), (1, 0), "{form:?}");
            assert_eq!(connect(other), Ok(()), "{form:?}");
            let client = TcpStream::from(socket);
            assert_eq!(client.peer_addr().expect("getpeername"), form.dress(other), "{form:?}");
            let refused = TcpStream::connect(form.dress(vip)).map(|_| ()).map_err(|e| e.kind());
            assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "{form:?}");
            drop(client);
            assert_eq!(rig.leads(form), (0, 0), "{form:?}: nor is anything left of a socket without a peer");
        }
    });
}

#[test]
fn a_back_end_itself_and_an_address_that_is_no_service_are_left_alone() {
    let rig = Rig::new();
    rig.netns.run(|| {
        for form in Form::ALL {
            let (_listener, backend) = form.listener();
            rig.service(form.vip(12, 80), TCP, &[backend]);
            let client = TcpStream::connect(form.dress(backend)).expect("connect");
            assert_eq!(client.peer_addr().expect("getpeername"), form.dress(backend));
            let error = TcpStream::connect(form.dress(form.vip(12, 81))).expect_err("no such port");
            assert!(
                matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable),
                "{form:?}: {error}"
            );
        }
        assert_eq!((rig.leads(Form::V4), rig.leads(Form::V6)), ((0, 0), (0, 0)));
    });
}

#[test]
fn switched_off_and_on_it_breaks_no_connection() {
    let rig = Rig::new();
    rig.netns.run(|| {
        for form in Form::ALL {
            let (listener, backend) = form.listener();
            let vip = form.vip(13, 80);
            rig.service(vip, TCP, &[backend]);
            let connect = || TcpStream::connect(form.dress(vip));
            let mut old = connect().expect("connect");
            let (mut server, _) = listener.accept().expect("accept");
            rig.mode(0);
            assert!(connect().is_err(), "{form:?}: nothing translates any more");
            old.write_all(b"still").expect("write");
            let mut bytes = [0; 5];
            server.read_exact(&mut bytes).expect("read");
            assert_eq!(old.peer_addr().expect("getpeername"), form.dress(vip));
            rig.mode(tortie_abi::settings::flags::CONNECT_TCP);
            assert!(connect().is_ok(), "{form:?}");
        }
    });
}

#[test]
fn a_process_outside_the_cgroup_sees_nothing_of_it() {
    let rig = Rig::new();
    let elsewhere = crate::rig::Cgroup::new();
    rig.netns.run(|| {
        let (_listener, backend) = Form::V4.listener();
        let vip = Form::V4.vip(14, 80);
        rig.service(vip, TCP, &[backend]);
        let script =
            format!("echo $$ > {}/cgroup.procs; exec 3<>/dev/tcp/{}/80", elsewhere.0.display(), vip.ip());
        let output = std::process::Command::new("bash").args(["-c", &script]).output().expect("bash");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && complaint.contains("No route to host"), "{complaint}");
        assert!(TcpStream::connect(vip).is_ok(), "inside it is served");
    });
}
