// SPDX-License-Identifier: GPL-2.0

//! Rust network device sample: `ip link add type rust_dummy` makes devices that drop and count.

use kernel::{
    net::{
        device::{
            Device,
            Driver,
            Flag,
            LinkStats,
            LockClasses,
            NewDevice,
            NewLink,
            Ops,
            PcpuStats,
            PrivFlag,
            Setup, //
        },
        link_ops::{
            LinkOps,
            LinkTable,
            NewLinkParams,
            Registration, //
        },
        rtnl::Rtnl,
        skbuff::{
            SkBuff,
            TxContext,
            XmitResult, //
        },
    },
    nl_attributes,
    prelude::*, //
};

module! {
    type: DummyModule,
    name: "rust_netdev_dummy",
    authors: ["The netkit-rust maintainers"],
    description: "Rust network device sample",
    license: "GPL",
    alias: ["rtnl-link-rust_dummy"],
}

struct DummyModule {
    _links: Registration<Dummy>,
}

impl kernel::Module for DummyModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Registration::new().map(|_links| Self { _links })
    }
}

struct Dummy;

static LOCK_CLASSES: LockClasses<Dummy> = LockClasses::new();
static DEVICE_OPS: Ops<Dummy> = Ops::new(&LOCK_CLASSES);
static LINK_TABLE: LinkTable<Dummy> = LinkTable::new();

nl_attributes! {
    /// There is nothing to configure.
    struct NoAttrs(max = 0) {}
}

#[vtable]
impl LinkOps for Dummy {
    type Attrs = NoAttrs;

    const KIND: &'static CStr = c"rust_dummy";

    fn table() -> &'static LinkTable<Self> {
        &LINK_TABLE
    }

    fn new_link<'a>(
        dev: NewDevice<'a, Self>,
        _params: &NewLinkParams<'_, Self>,
        rtnl: &'a Rtnl,
    ) -> Result<NewLink<'a, Self>> {
        dev.register(rtnl)
    }
}

#[vtable]
impl Driver for Dummy {
    type Data = ();
    type Hook = ();

    const NAME: &'static CStr = c"rust_netdev_dummy";
    const STATS: PcpuStats = PcpuStats::Traffic;

    fn ops() -> &'static Ops<Self> {
        &DEVICE_OPS
    }

    fn data() -> impl PinInit<()> {
        pin_init::init_zeroed()
    }

    fn setup(dev: &Setup<Self>) {
        dev.add_flags(Flag::NoArp.into());
        dev.add_priv_flags(PrivFlag::NoQueue.into());
        dev.set_lockless_tx();
        dev.set_random_address();
    }

    fn start_xmit(dev: &Device<Self>, skb: SkBuff, context: &TxContext) -> XmitResult {
        dev.count_tx(1, skb.len(), context);
        skb.consume();
        XmitResult::Sent
    }

    fn get_stats(dev: &Device<Self>, stats: &mut LinkStats<'_>) {
        stats.add_traffic(dev);
    }
}
