// SPDX-License-Identifier: GPL-2.0-only

//! Receive queues.

use kernel::net::device::{
    Queues,
    XdpFeature,
    XdpFeatures, //
};

/// How many queues a device can have: receive queues are there to be leased.
pub(crate) const MAX_QUEUES: Queues = Queues { tx: 1, rx: 1024 };

/// How many queues are in use before any is leased.
pub(crate) const REAL_QUEUES: Queues = Queues { tx: 1, rx: 1 };

/// What XDP can do with a single device once it has leased a queue: AF_XDP sockets are served by
/// the physical device. Without a lease, they are refused.
pub(crate) fn xdp_features() -> XdpFeatures {
    XdpFeature::Basic | XdpFeature::Redirect | XdpFeature::XskZeroCopy
}
