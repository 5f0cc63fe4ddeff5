// SPDX-License-Identifier: GPL-2.0-only

//! BPF-programmable network devices.
//!
//! A netkit device hands each packet that it is given to transmit to its peer, which receives it;
//! in between, BPF programs decide what becomes of it. A *pair* joins a container to its host: one
//! end, the primary, stays with the host and is where both ends are configured. A *single* device
//! has no peer, and transmits nothing; it is there to lend receive queues of a physical device.
//!
//! - This file: the link operations, the device operations, and the transmit path.
//! - `netkit_policy.rs`: what users can configure.
//! - `netkit_bpf.rs`: attaching programs.
//! - `netkit_rxq.rs`: receive queues.
//!
//! C version of this driver: [`drivers/net/netkit.c`](srctree/drivers/net/netkit.c)

use core::cmp::max;
use kernel::{
    bpf::{
        mprog::{
            self,
            Hook, //
        },
        NetCtx, //
    },
    net::{
        device::{
            peer_entry,
            Device,
            Driver,
            Feature,
            Flag,
            KillList,
            LinkStats,
            LockClasses,
            MacChange,
            Name,
            NewDevice,
            NewLink,
            Ops,
            PcpuStats,
            PrivFlag,
            Queues,
            Registered,
            Setup,
            UnregisteredDevice,
            ETH_MAX_MTU,
            GSO_MAX_SIZE, //
        },
        ext_ack::ExtAck,
        link_ops::{
            LinkAttrs,
            LinkOps,
            LinkTable,
            NewLinkParams,
            PeerAttr,
            Registration, //
        },
        namespace::Namespace,
        nlattr::{
            AttrSet,
            Key,
            MsgWriter, //
        },
        notifier,
        queue::{
            AddedQueue,
            Locked, //
        },
        rtnl::Rtnl,
        skbuff::{
            SkBuff,
            TxContext,
            XmitResult, //
        },
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu, //
    },
};
use netkit_policy::{
    Action,
    Config,
    Mode,
    NetkitAttrs,
    Pairing,
    Policy,
    Scrub, //
};
use netkit_rxq::LeaseWatch;

mod netkit_bpf;
mod netkit_policy;
mod netkit_rxq;

module! {
    type: NetkitModule,
    name: "netkit",
    authors: ["The netkit-rust maintainers"],
    description: "BPF-programmable network device",
    license: "GPL",
    alias: ["rtnl-link-netkit"],
}

// The kinds of links go first, and take all devices with them.
struct NetkitModule {
    _links: Registration<Netkit>,
    _leases: Pin<KBox<notifier::Registration<LeaseWatch>>>,
}

impl kernel::Module for NetkitModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _links: Registration::new()?,
            _leases: KBox::pin_init(notifier::Registration::new(LeaseWatch), GFP_KERNEL)?,
        })
    }
}

/// The driver.
struct Netkit;

static LOCK_CLASSES: LockClasses<Netkit> = LockClasses::new();

static DEVICE_OPS: Ops<Netkit> =
    Ops::new(&LOCK_CLASSES).with_peer_entry(peer_entry!(netkit_peer_dev, Netkit));

static LINK_TABLE: LinkTable<Netkit> = LinkTable::new();

/// What the driver keeps for each device.
///
/// The transmit path needs the first fields, which share a cache line with the peer.
#[repr(C)]
#[pin_data]
struct NetkitData {
    /// What becomes of packets that no program decides on.
    policy: Policy,
    scrub: Scrub,

    mode: Mode,
    pairing: Pairing,
    primary: bool,
    /// The headroom that this end wants, in bytes.
    headroom: Atomic<u32>,
}

/// The name of a device whose user has not chosen one.
const NAME: Name = Name::template(c"nk%d");

/// Creation.
impl Netkit {
    /// Creates and registers the peer of `dev`.
    fn create_peer<'a>(
        config: &Config<'_>,
        dev: &NewDevice<'_, Self>,
        params: &NewLinkParams<'_, Self>,
        rtnl: &'a Rtnl,
    ) -> Result<Registered<'a, Self>> {
        // Without attributes of its own, the peer takes after the primary.
        let own = config.peer.info.as_ref();
        let attrs = own.map_or(params.link, |info| info.attrs());
        let name = own.and_then(|info| info.attrs().name()).unwrap_or(NAME);

        let mut peer = UnregisteredDevice::create(params, &name, attrs, rtnl)?;

        peer.inherit_tso_max(dev);
        Self::configure(&peer, config, config.peer.has_address());
        if let (Some(info), true) = (own, dev.ifindex() != 0) {
            peer.set_ifindex(info.ifindex());
        }
        peer.data().configure(config, false);

        let peer = peer.register(rtnl)?;

        Self::settle(&peer, config, rtnl);
        peer.announce()?;
        Ok(peer)
    }

    /// Gives a device what it needs before it is registered.
    fn configure(dev: &Setup<Self>, config: &Config<'_>, has_address: bool) {
        if config.headroom != 0 {
            dev.set_needed_headroom(config.headroom);
        }
        if config.tailroom != 0 {
            dev.set_needed_tailroom(config.tailroom);
        }
        if config.mode == Mode::L2 && !has_address {
            dev.set_random_address();
        }
    }

    /// Brings a device that has just been registered into its first state.
    fn settle(dev: &Device<Self>, config: &Config<'_>, rtnl: &Rtnl) {
        dev.carrier_off();
        if config.mode == Mode::L2 {
            dev.clear_flags(Flag::NoArp.into(), rtnl);
        }
    }
}

impl NetkitData {
    fn configure(self: Pin<&mut Self>, config: &Config<'_>, primary: bool) {
        let this = self.get_mut();
        let end = if primary {
            config.primary
        } else {
            config.peer.end
        };

        this.policy = Policy::new(end.policy);
        this.scrub = end.scrub;
        this.mode = config.mode;
        this.pairing = config.pairing;
        this.primary = primary;
        this.headroom = Atomic::new(config.headroom.into());
    }
}

#[vtable]
impl LinkOps for Netkit {
    type Attrs = NetkitAttrs;

    const KIND: &'static CStr = c"netkit";
    const PEER_ATTR: Option<Key<NetkitAttrs, PeerAttr>> = Some(NetkitAttrs::PEER_INFO);
    const MAX_QUEUES: Queues = netkit_rxq::MAX_QUEUES;
    const REAL_QUEUES: Option<Queues> = Some(netkit_rxq::REAL_QUEUES);

    fn table() -> &'static LinkTable<Self> {
        &LINK_TABLE
    }

    fn validate<'a>(
        link: AttrSet<'a, LinkAttrs>,
        _data: AttrSet<'a, NetkitAttrs>,
        _extack: ExtAck<'a>,
    ) -> Result {
        link.validate_ethernet_address()
    }

    fn new_link<'a>(
        mut dev: NewDevice<'a, Self>,
        params: &NewLinkParams<'_, Self>,
        rtnl: &'a Rtnl,
    ) -> Result<NewLink<'a, Self>> {
        let config = Config::parse(params.link, params.data, params.extack)?;
        let peer = match config.pairing {
            Pairing::Pair => Some(Self::create_peer(&config, &dev, params, rtnl)?),
            Pairing::Single => None,
        };

        if !params.link.has(LinkAttrs::NAME) {
            dev.set_name(&NAME);
        }
        Self::configure(&dev, &config, params.link.has(LinkAttrs::ADDRESS));
        dev.data().configure(&config, true);
        if config.pairing == Pairing::Single {
            dev.set_xdp_features(netkit_rxq::xdp_features());
        }

        let dev = dev.register(rtnl)?;

        Self::settle(&dev, &config, rtnl);
        if let Some(peer) = peer {
            dev.join(&peer, rtnl)?;
            peer.keep();
        }
        Ok(dev)
    }

    fn change_link<'a>(
        dev: &Device<Self>,
        data: AttrSet<'a, NetkitAttrs>,
        extack: ExtAck<'a>,
        rtnl: &Rtnl,
    ) -> Result {
        netkit_policy::change(dev, data, extack, rtnl)
    }

    fn delete_link(dev: &Device<Self>, kill: &mut KillList<'_>, rtnl: &Rtnl) {
        let peer = dev.part(rtnl);

        kill.add(dev, rtnl);
        if let Some(peer) = peer {
            kill.add(peer, rtnl);
        }
    }

    fn link_net<'r>(dev: &Device<Self>, rtnl: &'r Rtnl) -> &'r Namespace {
        dev.peer_rtnl(rtnl).unwrap_or(dev).net_rtnl(rtnl)
    }

    fn report_room() -> usize {
        netkit_policy::REPORT_ROOM
    }

    fn report(dev: &Device<Self>, msg: &mut MsgWriter<'_>, rtnl: &Rtnl) -> Result {
        netkit_policy::report(dev, msg, rtnl)
    }
}

#[vtable]
impl Driver for Netkit {
    type Data = NetkitData;
    type Hook = Hook<Device<Netkit>>;

    const NAME: &'static CStr = c"netkit";
    const STATS: PcpuStats = PcpuStats::Traffic;
    const RECEIVES_ALL: bool = true;
    const PASSTHRU_FEATURES: bool = true;

    fn ops() -> &'static Ops<Self> {
        &DEVICE_OPS
    }

    fn data() -> impl PinInit<NetkitData> {
        pin_init!(NetkitData {
            policy: Policy::new(Action::PASS),
            scrub: Scrub::Default,
            mode: Mode::L3,
            pairing: Pairing::Pair,
            primary: false,
            headroom: Atomic::new(0),
        })
    }

    fn setup(dev: &Setup<Self>) {
        let vlan = Feature::HwVlanCtagTx
            | Feature::HwVlanCtagRx
            | Feature::HwVlanStagTx
            | Feature::HwVlanStagRx;
        let features = vlan
            | Feature::Sg
            | Feature::FragList
            | Feature::HwCsum
            | Feature::RxCsum
            | Feature::SctpCrc
            | Feature::HighDma
            | Feature::GsoSoftware
            | Feature::GsoEncapAll;

        dev.set_max_mtu(ETH_MAX_MTU);
        dev.add_flags(Flag::NoArp.into());
        dev.add_priv_flags(PrivFlag::LiveAddrChange | PrivFlag::PhonyHeadroom | PrivFlag::NoQueue);
        dev.set_lockless_tx();
        dev.set_netmem_tx_no_dma();

        dev.set_features(features, features);
        dev.set_encap_features(features);
        dev.set_mpls_features(Feature::HwCsum | Feature::GsoSoftware);
        dev.inherit_vlan_features(vlan);
        dev.set_tso_max_size(GSO_MAX_SIZE);
    }

    #[inline(always)]
    fn start_xmit(dev: &Device<Self>, skb: SkBuff, tx: &TxContext) -> XmitResult {
        NetCtx::enter(tx, |context| {
            let guard = rcu::read_lock();

            match transmit(dev, skb, tx, context, &guard) {
                Ok(()) => XmitResult::Sent,
                Err(Dropped) => {
                    dev.count_tx_dropped();
                    XmitResult::Dropped
                }
            }
        })
    }

    fn open(dev: &Device<Self>, rtnl: &Rtnl) -> Result {
        let data = dev.data();

        if data.pairing == Pairing::Single {
            dev.carrier_on();
            return Ok(());
        }

        let peer = dev.peer_rtnl(rtnl).ok_or(ENOTCONN)?;

        if peer.is_up() {
            dev.carrier_on();
            peer.carrier_on();
        }
        Ok(())
    }

    fn stop(dev: &Device<Self>, rtnl: &Rtnl) {
        dev.carrier_off();
        if let Some(peer) = dev.peer_rtnl(rtnl) {
            peer.carrier_off();
        }
    }

    fn get_stats(dev: &Device<Self>, stats: &mut LinkStats<'_>) {
        stats.add_traffic(dev);
        stats.set_tx_dropped(dev);
    }

    fn iflink(dev: &Device<Self>) -> i32 {
        let guard = rcu::read_lock();

        dev.peer(&guard).map_or(0, |peer| peer.ifindex())
    }

    fn set_rx_headroom(dev: &Device<Self>, headroom: u32) {
        let guard = rcu::read_lock();

        dev.data().headroom.store(headroom, Relaxed);

        // Packets pass both ends, so both ask for what either of them wants. A wish that is too
        // large for the devices loses its upper bits, as with the C driver.
        let Some(peer) = dev.peer(&guard) else {
            return dev.set_needed_headroom(headroom as u16);
        };
        let both = max(headroom, peer.data().headroom.load(Relaxed)) as u16;

        peer.set_needed_headroom(both);
        dev.set_needed_headroom(both);
    }

    fn set_mac_address(change: MacChange<'_, Self>) -> Result {
        match change.device().data().mode {
            Mode::L2 => change.apply(),
            Mode::L3 => Err(EOPNOTSUPP),
        }
    }

    fn create_queue<'a>(dev: &'a Locked<'_, Self>, extack: ExtAck<'_>) -> Result<AddedQueue<'a>> {
        netkit_rxq::create_queue(dev, extack)
    }

    fn accept_xsk(dev: &Locked<'_, Self>) -> Result {
        netkit_rxq::accept_xsk(dev)
    }
}

// What leaves the decision to the next program must mean the same to those who run them.
static_assert!(Action::NEXT.0 == mprog::NEXT);

/// The packet was freed on the way.
struct Dropped;

/// Sends a packet from `dev` to its peer, or to where its programs say.
#[inline(always)]
fn transmit(
    dev: &Device<Netkit>,
    skb: SkBuff,
    tx: &TxContext,
    context: &NetCtx,
    guard: &rcu::Guard,
) -> Result<(), Dropped> {
    let data = dev.data();
    let len = skb.len();
    let peer = dev.peer(guard).filter(|peer| peer.is_up());
    let peer = peer.ok_or(Dropped)?;

    let frame = skb.into_frame().map_err(|_| Dropped)?;
    frame.orphan_frags(GFP_ATOMIC).map_err(|_| Dropped)?;
    frame.scrub(false);
    frame.set_skip_egress(true);
    if dev.net(guard) != peer.net(guard) {
        frame.clear_timestamp();
        if data.scrub == Scrub::Default {
            frame.set_priority(0);
            frame.set_mark(0);
        }
    }
    let frame = frame.forward_to(peer);
    let policy = data.policy.load();

    match Action(frame.run(dev.hook(), policy.0, context, guard)) {
        Action::NEXT | Action::PASS => {
            if !frame.receive(tx) {
                return Err(Dropped);
            }
            dev.count_tx(1, len, tx);
            peer.count_rx(len, tx);
        }
        Action::REDIRECT => {
            dev.count_tx(1, len, tx);
            frame.redirect(context);
        }
        // Dropped, as is what a program returns that means nothing.
        _ => return Err(Dropped),
    }
    Ok(())
}
