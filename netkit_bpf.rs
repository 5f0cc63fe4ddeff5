// SPDX-License-Identifier: GPL-2.0-only

//! Attaching BPF programs: where the `bpf(2)` system call enters the driver.
//!
//! The driver runs no programs yet, so it attaches none.

use crate::Netkit;
use kernel::{
    bpf::{
        Attach,
        Prog,
        Request, //
    },
    prelude::*, //
};

kernel::bpf_attach_entries! {
    Netkit,
    attach: netkit_prog_attach,
    link_attach: netkit_link_attach,
    detach: netkit_prog_detach,
    query: netkit_prog_query,
}

impl Attach for Netkit {
    fn attach(_request: &Request, _prog: &Prog) -> Result {
        Err(EOPNOTSUPP)
    }

    fn link_attach(_request: &Request, _prog: &Prog) -> Result {
        Err(EOPNOTSUPP)
    }

    fn detach(_request: &Request, _prog: Option<&Prog>) -> Result {
        Err(EOPNOTSUPP)
    }

    fn query(_request: &Request) -> Result {
        Err(EOPNOTSUPP)
    }
}
