# SPDX-License-Identifier: GPL-2.0
# ruff: noqa: F401

"""
What the netkit tests share.
"""

import sys
from pathlib import Path

KSFT_DIR = (Path(__file__).parent / "../../../../..").resolve()
sys.path.append(KSFT_DIR.as_posix())

from net.lib.py import KsftNamedVariant, KsftSkipEx, ksft_busy_wait, ksft_eq, ksft_exit
from net.lib.py import ksft_ge, ksft_gt, ksft_in, ksft_lt, ksft_ne, ksft_not_in, ksft_pr
from net.lib.py import ksft_raises, ksft_run, ksft_true, ksft_variants
from net.lib.py import EthtoolFamily, NetNSEnter, NetdevSimDev, RtnlFamily, bkg, bpftool
from net.lib.py import cmd, defer, ip, tc

from . import insn
from .bpf import HOOKS, HOOKS_AND_MODES, Attached, AttachType, BpfLink, F, Hook, Map
from .bpf import Program, ProgType, Way, answer, link_gone, link_ids, links_of
from .bpf import pin_path, program_exists, program_gone, way, ways
from .kernel import KMEMLEAK, Fix, KernelLog, capabilities, kernel_memory, leaks
from .kernel import limit_backlog, needs
from .ksft import cases
from .leased import LEASED, QUEUE, Leased, frames_to, leased, lessee, same
from .netkit import IFF_UP, MODES, Mode, Namespace, Pairing, Policy, Port, Scrub
from .netkit import bare_packets, emptied, fork, namespaces, netkit, operational, pair
from .netkit import refused, sending, single, tun
from .packet import BROADCAST, ETH_HLEN, ETH_P_TEST, MARK, PRIORITY, Capture, Offloaded
from .packet import PacketSocket, Received, frame, ip_frame, protocol_of, send_segments
from .redirect import EGRESS, INGRESS, Segment, grown, made, next_hop, received
from .redirect import redirect, redirect_neigh, redirecting, second_pair, send
from .redirect import send_back, send_frame, sent, tc_filter, veth
from .rtnl import RTM_DELLINK, RTM_NEWLINK, Attrs, Monitor, Rtnl, Value, ns_fd
from .simnic import RESTART_FAULTS, Nic, lease, queue_get, simnic, unload
from .xsk import Bind, Redirection, XdpSocket
