// SPDX-License-Identifier: GPL-2.0

//! Notifications of network devices that go.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use crate::{
    bindings,
    container_of,
    error::to_result,
    net::{
        device::{
            is_unregistering,
            KillList,
            NetDevice, //
        },
        rtnl::Rtnl, //
    },
    prelude::*,
    types::Opaque, //
};

/// Somebody who wants to know when network devices go.
pub trait Notifier: Sync + 'static {
    /// Called when a device is being unregistered, for good: whoever depends on it lets go of it.
    ///
    /// Devices of the driver that go too are put on the list. Called with the RTNL held; may sleep.
    fn unregistering(&self, dev: &NetDevice, kill: &mut KillList<'_>, rtnl: &Rtnl);
}

/// A notifier that is registered for as long as this lives.
///
/// Dropping it takes the RTNL.
///
/// # Examples
///
/// ```
/// use kernel::net::{
///     device::{KillList, NetDevice},
///     notifier::{Notifier, Registration},
///     rtnl::Rtnl,
/// };
/// use kernel::sync::atomic::{Atomic, Relaxed};
///
/// /// Counts the devices that go.
/// struct Counter(Atomic<i32>);
///
/// impl Notifier for Counter {
///     fn unregistering(&self, _dev: &NetDevice, _kill: &mut KillList<'_>, _rtnl: &Rtnl) {
///         self.0.add(1, Relaxed);
///     }
/// }
///
/// let counter = KBox::pin_init(Registration::new(Counter(Atomic::new(0))), GFP_KERNEL)?;
///
/// // How many have gone so far; it counts until it is dropped.
/// let _gone = counter.notifier().0.load(Relaxed);
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
    /// Registers a notifier. Takes the RTNL.
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
        // SAFETY: The caller guarantees that the RTNL is held.
        let rtnl = unsafe { Rtnl::assume_held() };

        if u32::try_from(event) == Ok(bindings::netdev_cmd_NETDEV_UNREGISTER) {
            // SAFETY: The device has been registered, and the RTNL keeps it alive.
            let dev = unsafe { NetDevice::from_raw(dev) };

            // C says the same of a device that is moved, and of all when the notifier goes.
            if is_unregistering(dev, rtnl) {
                KillList::unregister(rtnl, |kill, rtnl| {
                    this.notifier.unregistering(dev, kill, rtnl)
                });
            }
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
        crate::warn_on!(ret != 0);
    }
}
