//! A cgroup with this process in it, a network namespace, and the programs on maps of their own.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tortie_abi::maps;
use tortie_abi::service::{BackendKey, Frontend, Member};
use tortie_abi::settings::{Settings, flags};
use tortie_abi::{Tick, v4, v6};
use tortie_host::bpf::{Map, Program, Update};
use tortie_host::maps::Maps;
use tortie_host::object::{self, Prepared};
use tortie_host::sockets::SocketHooks;
use tortie_host::{bpffs, cgroup};
use tortie_testkit::netns::Netns;
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes};

static NEXT: AtomicU32 = AtomicU32::new(0);
/// A process is in one cgroup at a time.
static PROCESS: Mutex<()> = Mutex::new(());

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// A cgroup that goes when the test ends, also by a panic.
pub struct Cgroup(pub PathBuf);

impl Cgroup {
    pub fn new() -> Self {
        let root = cgroup::find(None).expect("cgroup v2");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = root.join(format!("tt-sockets-{}-{number}", std::process::id()));
        fs::create_dir(&dir).expect("a cgroup; this needs root");
        Self(dir)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).expect("an empty cgroup");
    }
}

/// Everything that a test needs; the process is in the cgroup while it lives.
pub struct Rig {
    pub hooks: SocketHooks,
    pub programs: BTreeMap<String, Program>,
    pub netns: Netns,
    maps: Maps,
    pub pins: PathBuf,
    home: PathBuf,
    next_service: AtomicU32,
    _prepared: Prepared,
    pub cgroup: Cgroup,
    _process: MutexGuard<'static, ()>,
}

impl Rig {
    /// In mode TCP, with the programs attached.
    pub fn new() -> Self {
        let rig = Self::unattached();
        rig.hooks.attach(&rig.cgroup.0, &rig.programs, true).expect("attach");
        rig
    }

    /// In mode TCP, with the programs loaded.
    pub fn unattached() -> Self {
        let process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        let cgroup = Cgroup::new();
        let own = fs::read_to_string("/proc/self/cgroup").expect("this process's cgroups");
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup v2");
        let home = cgroup::find(None).expect("cgroup v2").join(own);
        let pins = PathBuf::from(format!("/sys/fs/bpf/{}", cgroup.0.file_name().unwrap().to_string_lossy()));
        bpffs::ensure(&pins).expect("a BPF file system; this needs root");
        let maps = Maps::anonymous(&BTreeMap::new()).expect("maps");
        let prepared = object::prepare(object::embedded(), &maps).expect("the object");
        let programs = prepared.load_all().expect("programs");
        let hooks = SocketHooks::open(&pins).expect("pins");
        let netns = Netns::new();
        // Where packets to a Service would go when nothing translates them: nowhere.
        netns.ip("route add unreachable 10.96.0.0/16");
        netns.ip("-6 route add unreachable fd00:96::/64");
        fs::write(cgroup.0.join("cgroup.procs"), "0").expect("moving into the cgroup");
        let next_service = AtomicU32::new(1);
        let rig = Self {
            hooks,
            programs,
            netns,
            maps,
            pins,
            home,
            next_service,
            _prepared: prepared,
            cgroup,
            _process: process,
        };
        rig.mode(flags::CONNECT_TCP);
        rig
    }

    pub fn map(&self, name: &str) -> &Map {
        self.maps.get(name).expect("one of the list")
    }

    /// What the agent would write for a mode.
    pub fn mode(&self, flags: u32) {
        let udp = Tick::ticks_of_millis(60_000);
        let settings = Settings { flags, udp, ..Settings::new_zeroed() };
        self.map("settings").update(&0u32.to_ne_bytes(), settings.as_bytes(), Update::Any).expect("settings");
    }

    /// A Service with these back ends; gives its id.
    pub fn service(&self, at: SocketAddr, protocol: u8, backends: &[SocketAddr]) -> u32 {
        let service = self.next_service.fetch_add(1, Ordering::Relaxed);
        self.set_service(service, at, protocol, backends);
        service
    }

    /// The Service is as given from now on.
    pub fn set_service(&self, service: u32, at: SocketAddr, protocol: u8, backends: &[SocketAddr]) {
        let put = |map: &str, key: &[u8], value: &[u8]| {
            self.map(map).update(key, value, Update::Any).expect("map update");
        };
        for (ordinal, backend) in (0..).zip(backends) {
            let key = BackendKey { service, ordinal };
            let port = backend.port().into();
            match backend.ip() {
                IpAddr::V4(a) => {
                    let value = v4::Backend { address: a.into(), port, _zero: 0 };
                    put("backend4", key.as_bytes(), value.as_bytes());
                    let key = v4::MemberKey { service, address: a.into(), port, _zero: 0 };
                    put("member4", key.as_bytes(), Member { ordinal }.as_bytes());
                }
                IpAddr::V6(a) => {
                    let value = v6::Backend { address: a.into(), port, _zero: 0 };
                    put("backend6", key.as_bytes(), value.as_bytes());
                    let key = v6::MemberKey { service, address: a.into(), port, _zero: 0 };
                    put("member6", key.as_bytes(), Member { ordinal }.as_bytes());
                }
            }
        }
        let mut frontend = Frontend { service, backends: backends.len() as u32, ..Frontend::default() };
        if let [lone] = backends {
            frontend = frontend.with_lone(lone.ip(), lone.port().into());
        }
        let port = at.port().into();
        match at.ip() {
            IpAddr::V4(a) => {
                let key = v4::FrontendKey { address: a.into(), port, protocol, _zero: 0 };
                put("frontend4", key.as_bytes(), frontend.as_bytes());
            }
            IpAddr::V6(a) => {
                let key = v6::FrontendKey { address: a.into(), port, protocol, _zero: 0 };
                put("frontend6", key.as_bytes(), frontend.as_bytes());
            }
        }
    }

    /// The back end is none of the Service's any more.
    pub fn remove_member(&self, service: u32, backend: SocketAddr) {
        let port = backend.port().into();
        let (map, key) = match backend.ip() {
            IpAddr::V4(a) => {
                let key = v4::MemberKey { service, address: a.into(), port, _zero: 0 };
                ("member4", key.as_bytes().to_vec())
            }
            IpAddr::V6(a) => {
                let key = v6::MemberKey { service, address: a.into(), port, _zero: 0 };
                ("member6", key.as_bytes().to_vec())
            }
        };
        assert!(self.map(map).delete(&key).expect("a map"), "a member");
    }

    /// Sockets of which something is remembered: those that have their place, and the others.
    pub fn leads(&self, form: Form) -> (usize, usize) {
        let places = self.places(form).filter(|place| place.cookie() != 0).count();
        (places, self.entries(form.rest()))
    }

    /// All places have other owners than the sockets of this machine: `taken`; or none.
    pub fn set_places(&self, form: Form, taken: bool) {
        for index in 0..maps::SOCKET_PLACES {
            let mut value = vec![0; self.map(form.places()).info().value_bytes as usize];
            value[..8].fill(if taken { u8::MAX } else { 0 });
            self.map(form.places()).update(&index.to_ne_bytes(), &value, Update::Any).expect("a place");
        }
    }

    /// How many sockets are counted as such that have no place.
    pub fn others(&self, form: Form) -> u32 {
        self.places(form).map(|place| place.others()).sum()
    }

    fn places(&self, form: Form) -> impl Iterator<Item = Place> {
        (0..maps::SOCKET_PLACES).map(move |index| {
            let mut value = vec![0; self.map(form.places()).info().value_bytes as usize];
            assert!(self.map(form.places()).lookup(&index.to_ne_bytes(), &mut value).expect("a place"));
            Place(value)
        })
    }

    /// Entries of a map.
    pub fn entries(&self, map: &str) -> usize {
        let map = self.map(map);
        let mut key = vec![0; map.info().key_bytes as usize];
        let mut previous: Option<Vec<u8>> = None;
        let mut entries = 0;
        while map.next_key(previous.as_deref(), &mut key).expect("next key") {
            entries += 1;
            previous = Some(key.clone());
        }
        entries
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.pins).expect("pins can be removed");
        fs::write(self.home.join("cgroup.procs"), "0").expect("moving back");
    }
}

/// An element of `socket4` or `socket6`, which begins with the owner and ends with the count of the others.
struct Place(Vec<u8>);

impl Place {
    fn cookie(&self) -> u64 {
        u64::read_from_prefix(&self.0).expect("long enough").0
    }

    fn others(&self) -> u32 {
        u32::read_from_suffix(&self.0).expect("long enough").1
    }
}

/// A family, and how an IPv4 address is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    V4,
    V6,
    /// An IPv6 socket to an IPv4 Service.
    Mapped,
}

impl Form {
    pub const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Mapped];

    pub fn vip(self, host: u16, port: u16) -> SocketAddr {
        match self {
            Self::V4 | Self::Mapped => format!("10.96.0.{host}:{port}").parse().expect("an address"),
            Self::V6 => format!("[fd00:96::{host}]:{port}").parse().expect("an address"),
        }
    }

    pub fn loopback(self) -> SocketAddr {
        match self {
            Self::V4 | Self::Mapped => "127.0.0.1:0".parse().expect("an address"),
            Self::V6 => "[::1]:0".parse().expect("an address"),
        }
    }

    /// As the socket names it.
    pub fn dress(self, address: SocketAddr) -> SocketAddr {
        match (self, address) {
            (Self::Mapped, SocketAddr::V4(a)) => {
                SocketAddr::new(IpAddr::V6(a.ip().to_ipv6_mapped()), a.port())
            }
            _ => address,
        }
    }

    fn places(self) -> &'static str {
        match self {
            Self::V4 | Self::Mapped => "socket4",
            Self::V6 => "socket6",
        }
    }

    pub fn rest(self) -> &'static str {
        match self {
            Self::V4 | Self::Mapped => "socket_rest4",
            Self::V6 => "socket_rest6",
        }
    }

    /// A TCP socket without a peer.
    pub fn socket(self) -> OwnedFd {
        let family = if self == Self::V4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket")
    }

    pub fn listener(self) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(self.loopback()).expect("a listener");
        let address = listener.local_addr().expect("its address");
        (listener, address)
    }
}
