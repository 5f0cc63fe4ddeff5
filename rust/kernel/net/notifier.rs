// SPDX-License-Identifier: GPL-2.0

//! Notifications of what happens to network devices.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use crate::{
    bindings,
    container_of,
    error::to_result,
    net::{
        device::NetDevice,
        rtnl::Rtnl, //
    },
    prelude::*,
    types::Opaque, //
};

/// What has happened to a device, or is about to. C: `enum netdev_cmd`.
///
/// Events that come before a device is registered, and those that no user has asked for so far, are
/// not passed on.
#[derive(Clone, Copy)]
pub enum Event<'a> {
    /// The device has been registered.
    Registered(&'a NetDevice),
    /// The device is being unregistered: let go of it.
    Unregistering(&'a NetDevice),
    /// The interface has been set up.
    Up(&'a NetDevice),
    /// The interface is about to be set down.
    GoingDown(&'a NetDevice),
    /// The interface has been set down.
    Down(&'a NetDevice),
    /// Flags or the carrier have changed.
    Changed(&'a NetDevice),
    /// The interface has a new name.
    Renamed(&'a NetDevice),
}

impl<'a> Event<'a> {
    fn new(event: c_ulong, dev: &'a NetDevice) -> Option<Self> {
        let event = match u32::try_from(event).ok()? {
            bindings::netdev_cmd_NETDEV_REGISTER => Self::Registered(dev),
            bindings::netdev_cmd_NETDEV_UNREGISTER => Self::Unregistering(dev),
            bindings::netdev_cmd_NETDEV_UP => Self::Up(dev),
            bindings::netdev_cmd_NETDEV_GOING_DOWN => Self::GoingDown(dev),
            bindings::netdev_cmd_NETDEV_DOWN => Self::Down(dev),
            bindings::netdev_cmd_NETDEV_CHANGE => Self::Changed(dev),
            bindings::netdev_cmd_NETDEV_CHANGENAME => Self::Renamed(dev),
            _ => return None,
        };

        Some(event)
    }
}

/// Somebody who wants to know what happens to network devices.
pub trait Notifier: Sync + 'static {
    /// Called with the RTNL held. May sleep.
    fn notify(&self, event: Event<'_>, rtnl: &Rtnl);
}

/// A notifier that is registered for as long as this lives.
///
/// When it is registered, it is told of the devices that exist, as if they had just been registered
/// and set up; when it is dropped, as if they were set down and unregistered.
///
/// # Examples
///
/// ```
/// use kernel::net::{
///     notifier::{Event, Notifier, Registration},
///     rtnl::Rtnl,
/// };
/// use kernel::sync::atomic::{Atomic, Relaxed};
///
/// /// Counts devices.
/// struct Counter(Atomic<i32>);
///
/// impl Notifier for Counter {
///     fn notify(&self, event: Event<'_>, _rtnl: &Rtnl) {
///         match event {
///             Event::Registered(_) => self.0.add(1, Relaxed),
///             Event::Unregistering(_) => self.0.add(-1, Relaxed),
///             _ => {}
///         }
///     }
/// }
///
/// let counter = KBox::pin_init(Registration::new(Counter(Atomic::new(0))), GFP_KERNEL)?;
///
/// // The loopback device, if nothing else, is always there.
/// assert!(counter.notifier().0.load(Relaxed) > 0);
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// `block` is registered.
#[pin_data(PinnedDrop)]
pub struct Registration<T: Notifier> {
    #[pin]
    block: Opaque<bindings::notifier_block>,
    notifier: T,
}

// SAFETY: It may be unregistered by any thread.
unsafe impl<T: Notifier + Send> Send for Registration<T> {}

// SAFETY: A shared reference gives access to nothing but `&T`.
unsafe impl<T: Notifier> Sync for Registration<T> {}

impl<T: Notifier> Registration<T> {
    /// Registers a notifier. May sleep; must not be called with the RTNL held.
    pub fn new(notifier: T) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            notifier,
            block <- Opaque::try_ffi_init(|slot: *mut bindings::notifier_block| {
                // SAFETY: The slot is ours to initialise.
                unsafe {
                    slot.write(bindings::notifier_block {
                        notifier_call: Some(Self::call),
                        ..pin_init::zeroed()
                    })
                };

                // INVARIANT: `block` is registered if this succeeds, which is when `Self` comes to
                // exist.
                // SAFETY: The block is pinned, `notifier` is initialised already, and `drop()`
                // unregisters the block before it goes.
                to_result(unsafe { bindings::register_netdevice_notifier(slot) })
            }),
        })
    }

    /// Returns the notifier.
    pub fn notifier(&self) -> &T {
        &self.notifier
    }

    /// # Safety
    ///
    /// `block` must be that of a registered `Self`, `info` must be valid, and the RTNL held.
    unsafe extern "C" fn call(
        block: *mut bindings::notifier_block,
        event: c_ulong,
        info: *mut c_void,
    ) -> c_int {
        // SAFETY: The caller guarantees that the block is a `Self`'s.
        let this = unsafe { &*container_of!(Opaque::cast_from(block), Self, block) };
        // SAFETY: All structures that come with such events start with the common one.
        let dev = unsafe { (*info.cast::<bindings::netdev_notifier_info>()).dev };
        // SAFETY: The RTNL keeps the device alive. Those that were never registered are not given
        // to users, see `Event`.
        let dev = unsafe { NetDevice::from_raw(dev) };
        // SAFETY: The caller guarantees that the RTNL is held.
        let rtnl = unsafe { Rtnl::assume_held() };

        if let Some(event) = Event::new(event, dev) {
            this.notifier.notify(event, rtnl);
        }
        bindings::NOTIFY_DONE as c_int
    }
}

#[pinned_drop]
impl<T: Notifier> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants the block is registered.
        let ret = unsafe { bindings::unregister_netdevice_notifier(self.block.get()) };

        // It can only fail for a block that is not registered.
        debug_assert_eq!(ret, 0);
    }
}
