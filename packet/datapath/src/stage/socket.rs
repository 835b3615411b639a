//! Owns: what a socket's destination becomes, and by which name its peer is told. Does not: see packets.
//! Invariant: only an address that is a Service's front end is replaced; a peer is told by the Service's address
//! exactly when this socket was led to it from there.

use crate::family::Family;
use crate::kernel::{Clock, Random, Refusals, Services, Socket, SocketCall, Sockets, Topology};
use crate::stage::service::{self as choice, Side};
use crate::tuple::{Place, Tuple};
use tortie_abi::service::{self, Frontend};
use tortie_abi::settings::flags;
use tortie_abi::socket::side;
use tortie_abi::{DropReason, Tick};
use tortie_wire::Be16;
use tortie_wire::proto::IpProtocol;

/// What happens to a system call.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Admission {
    /// It goes on, with the address as it is now.
    Allow = 1,
    /// Nobody serves there: "connection refused".
    Refuse = 2,
    /// No back end may be used from here: "operation not permitted", as when a firewall drops at the source.
    Forbid = 3,
}

/// What becomes of a destination.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<A> {
    /// No Service, or not served at this hook.
    Stays,
    /// This back end.
    Becomes(Place<A>),
    /// A Service without a back end.
    Refused(Admission),
}

/// Everything that choosing needs.
pub trait Chooser<F: Family>:
    SocketCall + Services<F> + Sockets<F> + Topology<F> + Random + Clock + Refusals<F>
{
}

impl<F, K> Chooser<F> for K
where
    F: Family,
    K: SocketCall + Services<F> + Sockets<F> + Topology<F> + Random + Clock + Refusals<F>,
{
}

/// Where a socket that is being connected goes.
#[inline(always)]
pub fn connected<F: Family, K: Chooser<F>>(k: &K, to: Place<F::Addr>) -> Destination<F::Addr> {
    if !is_on::<F, K>(k, flags::CONNECT_TCP) {
        return Destination::Stays;
    }
    // Nothing is asked at a send on a connected UDP socket, so that a back end which vanishes could not be
    // replaced: its packets are translated one by one, unless they never become any that could be.
    let is_tcp = k.protocol() == IpProtocol::TCP.0;
    if !is_tcp && (k.protocol() != IpProtocol::UDP.0 || !F::is_at_self(&to.0)) {
        return Destination::Stays;
    }
    let Some(frontend) = frontend::<F, K>(k, to) else { return Destination::Stays };
    match choose::<F, K>(k, to, &frontend) {
        Ok(backend) => {
            k.set_lead(k.cookie(), &F::socket_lead(to, backend));
            if !is_tcp {
                let key = F::socket_key(k.cookie(), backend.0, backend.1, IpProtocol::UDP.0, side::BACKEND);
                remember::<F, K>(k, &key, to, frontend.service);
            }
            Destination::Becomes(backend)
        }
        Err(refused) => Destination::Refused(refused),
    }
}

/// How old a time of use may be: it is not written at every message.
const PRECISION: u32 = Tick::ticks_of_millis(1000);

/// Where one message of a socket that is not connected goes.
#[inline(always)]
pub fn sent<F: Family, K: Chooser<F>>(k: &K, to: Place<F::Addr>) -> Destination<F::Addr> {
    // A connected socket hears its peer alone: it would not get the answer of another address.
    if k.protocol() != IpProtocol::UDP.0 || k.is_connected() {
        return Destination::Stays;
    }
    let Some(frontend) = frontend::<F, K>(k, to) else { return Destination::Stays };
    let key = F::socket_key(k.cookie(), to.0, to.1, IpProtocol::UDP.0, side::SERVICE);
    let backend = match again::<F, K>(k, &key, &frontend) {
        Some(backend) => backend,
        None if !is_on::<F, K>(k, flags::CONNECT_UDP) && !F::is_at_self(&to.0) => {
            return Destination::Stays;
        }
        None => match choose::<F, K>(k, to, &frontend) {
            Ok(backend) => backend,
            Err(refused) => return Destination::Refused(refused),
        },
    };
    remember::<F, K>(k, &key, backend, frontend.service);
    let key = F::socket_key(k.cookie(), backend.0, backend.1, IpProtocol::UDP.0, side::BACKEND);
    remember::<F, K>(k, &key, to, frontend.service);
    Destination::Becomes(backend)
}

/// The back end of the last message to the same Service, while it is one of its and the socket was not silent
/// for as long as a flow would live.
#[inline(always)]
fn again<F: Family, K: Chooser<F>>(k: &K, key: &F::SocketKey, frontend: &Frontend) -> Option<Place<F::Addr>> {
    let (address, port, service, last_use) = F::peer(&k.message(key)?);
    let limit = k.settings(|settings| settings.udp).unwrap_or(0);
    if service != frontend.service || k.now().since(last_use) > limit {
        return None;
    }
    k.member(&F::member_key(service, address, port))?;
    Some((address, port))
}

/// Writes what is not known, or not of late.
#[inline(always)]
fn remember<F: Family, K: Chooser<F>>(k: &K, key: &F::SocketKey, place: Place<F::Addr>, service: u32) {
    let now = k.now();
    if let Some(known) = k.message(key) {
        let (address, port, of, last_use) = F::peer(&known);
        if (address, port, of) == (place.0, place.1, service) && now.since(last_use) < PRECISION {
            return;
        }
    }
    k.set_message(key, &F::socket_peer(place.0, place.1, service, now));
}

/// The Service's address, when this socket's messages to it were led to `from`.
#[inline(always)]
pub fn sender<F: Family, K: Socket + Sockets<F>>(k: &K, from: Place<F::Addr>) -> Option<Place<F::Addr>> {
    let known = k.message(&F::socket_key(k.cookie(), from.0, from.1, IpProtocol::UDP.0, side::BACKEND))?;
    let (address, port, _, _) = F::peer(&known);
    Some((address, port))
}

/// The Service's address, when this socket was led from there to `peer`.
#[inline(always)]
pub fn name<F: Family, K: Socket + Sockets<F>>(k: &K, peer: Place<F::Addr>) -> Option<Place<F::Addr>> {
    let (service, backend) = F::lead(&k.lead(k.cookie())?);
    // After an attempt that failed, a socket may have been connected to somebody else.
    (backend == peer).then_some(service)
}

#[inline(always)]
fn is_on<F: Family, K: Topology<F>>(k: &K, flag: u32) -> bool {
    k.settings(|settings| settings.flags & flag != 0).unwrap_or(false)
}

#[inline(always)]
fn frontend<F: Family, K: SocketCall + Services<F> + Topology<F>>(
    k: &K,
    to: Place<F::Addr>,
) -> Option<Frontend> {
    let at = Tuple {
        source: F::UNSPECIFIED,
        destination: to.0,
        source_port: Be16::ZERO,
        destination_port: to.1,
        protocol: k.protocol(),
    };
    let frontend =
        if F::is_at_self(&to.0) { at_loopback::<F, K>(k, &at)? } else { k.frontend(&F::frontend_key(&at))? };
    // Who may use it depends on the source address, which packets have and sockets do not.
    let open = frontend.flags & service::flags::SOURCE_RANGES == 0;
    (open && choice::is_translated(&frontend)).then_some(frontend)
}

/// Loopback of the node itself has the ports of its other addresses: no packet there could be translated. A pod's is the
/// pod's own.
#[inline(always)]
fn at_loopback<F: Family, K: SocketCall + Services<F> + Topology<F>>(
    k: &K,
    at: &Tuple<F::Addr>,
) -> Option<Frontend> {
    let host = k.settings(|settings| settings.host_netns)?;
    if service::netns_words(k.netns()) != host || !is_on::<F, K>(k, flags::CONNECT_TCP) {
        return None;
    }
    choice::frontend_of::<F, K>(k, at)
}

/// One of the back ends that may be used from here.
#[inline(always)]
fn choose<F: Family, K: Chooser<F>>(
    k: &K,
    to: Place<F::Addr>,
    frontend: &Frontend,
) -> Result<Place<F::Addr>, Admission> {
    let (reason, admission) = match usable_from_here::<F, K>(k, frontend) {
        Ok(backend) => return Ok(backend),
        Err(DropReason::NoBackend) if frontend.backends != 0 => (DropReason::NoBackend, Admission::Forbid),
        Err(reason) => (reason, Admission::Refuse),
    };
    k.refused(reason, to, frontend.service);
    Err(admission)
}

#[inline(always)]
fn usable_from_here<F: Family, K: Chooser<F>>(
    k: &K,
    frontend: &Frontend,
) -> Result<Place<F::Addr>, DropReason> {
    if frontend.backends == 0 {
        return Err(DropReason::NoBackend);
    }
    // A pod by its namespace: its address is not known before the route is. Who asks, and when, costs two calls of the kernel.
    let (netns, now) = if frontend.affinity == 0 { (0, Tick::default()) } else { (k.netns(), k.now()) };
    let client = F::affinity_key_of(netns, frontend.service);
    let range = choice::usable(frontend, Side::Inside);
    // Packets look it up: their programs have no room for it on the stack.
    if let (0, Some(lone)) = (frontend.affinity, choice::lone::<F>(frontend, range)) {
        return Ok(lone);
    }
    choice::backend::<F, K>(k, frontend, range, &client, now)
}
