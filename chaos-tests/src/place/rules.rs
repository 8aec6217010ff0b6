//! What stands between one node and the rest, as a script for nftables.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{LINK_PORT, face_address, hub, node_address, proxy_port};

/// The rules of one node's namespace.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    me: usize,
    count: usize,
    /// Nodes to which nothing is sent any more.
    pub(crate) mute_to: BTreeSet<usize>,
    /// Nodes from which nothing is heard any more.
    pub(crate) deaf_to: BTreeSet<usize>,
    /// Percent of the packets to and from other nodes that are lost.
    pub(crate) loss_nodes: u8,
    /// Percent of the packets to the services that are lost.
    pub(crate) loss_services: u8,
    /// Nothing is sent to and heard from these ports of the services.
    pub(crate) cut_ports: BTreeSet<u16>,
}

impl Rules {
    pub(super) fn new(me: usize, count: usize) -> Self {
        let (mute_to, deaf_to) = (BTreeSet::new(), BTreeSet::new());
        let (loss_nodes, loss_services, cut_ports) = (0, 0, BTreeSet::new());
        Self { me, count, mute_to, deaf_to, loss_nodes, loss_services, cut_ports }
    }

    /// Nothing stands between any more.
    pub(crate) fn heal(&mut self) {
        *self = Self::new(self.me, self.count);
    }

    fn others(&self) -> impl Iterator<Item = usize> {
        let me = self.me;
        (0..self.count).filter(move |n| *n != me)
    }

    /// The whole table, replacing what was there.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        let mut inn = String::new();
        for peer in self.others() {
            // A peer is its own address and the one from which the proxy speaks for it.
            let who = format!("{{ {}, {} }}", node_address(peer), face_address(peer));
            if self.mute_to.contains(&peer) {
                let _ = writeln!(out, "    ip daddr {who} drop");
            }
            if self.deaf_to.contains(&peer) {
                let _ = writeln!(inn, "    ip saddr {who} drop");
            }
            if self.loss_nodes > 0 {
                let lost = format!("numgen random mod 100 < {} drop", self.loss_nodes);
                let _ = writeln!(out, "    ip daddr {who} {lost}");
                let _ = writeln!(inn, "    ip saddr {who} {lost}");
            }
        }
        let hub = hub();
        for port in &self.cut_ports {
            let _ = writeln!(out, "    ip daddr {hub} tcp dport {port} drop");
            let _ = writeln!(inn, "    ip saddr {hub} tcp sport {port} drop");
        }
        if self.loss_services > 0 {
            let lost = format!("numgen random mod 100 < {} drop", self.loss_services);
            let _ = writeln!(out, "    ip daddr {hub} tcp dport < 32768 {lost}");
        }
        let nat: String = self.others().fold(String::new(), |mut nat, peer| {
            let (to, port) = (node_address(peer), proxy_port(self.me, peer));
            let _ = writeln!(nat, "    ip daddr {to} udp dport {LINK_PORT} dnat to {hub}:{port}");
            nat
        });
        // Before the addresses are rewritten, so that a peer is known by its own.
        format!(
            "table ip chaos\ndelete table ip chaos\ntable ip chaos {{\n  \
             chain out {{\n    type filter hook output priority -150;\n{out}  }}\n  \
             chain inn {{\n    type filter hook input priority 0;\n{inn}  }}\n  \
             chain nat {{\n    type nat hook output priority -100;\n{nat}  }}\n}}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_go_through_the_proxy_and_faults_name_both_faces_of_a_peer() {
        let mut rules = Rules::new(0, 3);
        let well = rules.render();
        assert!(
            well.contains("ip daddr 10.77.9.11 udp dport 8444 dnat to 10.77.9.1:9501"),
            "{well}"
        );
        assert!(!well.contains("drop"), "{well}");
        rules.mute_to.insert(1);
        rules.deaf_to.insert(2);
        rules.loss_nodes = 20;
        rules.cut_ports.insert(9042);
        let ill = rules.render();
        assert!(ill.contains("ip daddr { 10.77.9.11, 10.77.9.31 } drop"), "{ill}");
        assert!(ill.contains("ip saddr { 10.77.9.12, 10.77.9.32 } drop"), "{ill}");
        assert!(ill.contains("numgen random mod 100 < 20 drop"), "{ill}");
        assert!(ill.contains("ip saddr 10.77.9.1 tcp sport 9042 drop"), "{ill}");
        rules.heal();
        assert_eq!(rules.render(), well);
    }
}
