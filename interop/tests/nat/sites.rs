//! Namespaces, links and NAT rules.

use std::process::{Child, Command, Stdio};

use interop::{Lack, skipped};

/// What a site's router does to UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// There is none: the host has a public address.
    Open,
    /// A socket that has sent anything keeps its port, at which everybody gets in ("full cone").
    EndpointIndependent,
    /// A socket keeps its port; to it gets in whom it has sent to, from any of their ports.
    AddressDependent,
    /// Another random outer port for every destination; to it gets in only that destination.
    Symmetric,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] =
        [Self::Open, Self::EndpointIndependent, Self::AddressDependent, Self::Symmetric];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::Symmetric => "symmetric",
        }
    }

    /// The rules of a router whose inside is `lan` and outside is called `wan`.
    fn rules(self, lan: &str) -> String {
        let masquerade = match self {
            Self::Symmetric => "masquerade fully-random",
            _ => "masquerade",
        };
        let inward = match self {
            Self::Open => return String::new(),
            Self::EndpointIndependent => format!("iifname wan udp dport @open dnat to {lan}"),
            Self::AddressDependent => format!("iifname wan ip saddr . udp dport @called dnat to {lan}"),
            Self::Symmetric => "continue".to_owned(),
        };
        rules(masquerade, &inward)
    }
}

/// What becomes of the ports of a home's hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ports {
    Kept,
    /// Symmetric.
    Random,
}

/// What a router does: outward, and with what comes in unasked.
fn rules(masquerade: &str, inward: &str) -> String {
    // What nobody asked for must leave no trace in the router: it would keep the port from its owner.
    format!(
        "table ip nat {{
                set open {{ type inet_service; flags dynamic,timeout; timeout 2m; }}
                set called {{ type ipv4_addr . inet_service; flags dynamic,timeout; timeout 2m; }}
                chain in {{ type nat hook prerouting priority -100; {inward}; }}
                chain out {{
                    type nat hook postrouting priority 100;
                    oifname wan meta l4proto udp update @open {{ udp sport }}
                    oifname wan meta l4proto udp update @called {{ ip daddr . udp sport }}
                    oifname wan {masquerade}
                }}
            }}
            table ip filter {{
                chain router {{ type filter hook input priority 0; iifname wan ct state new drop; }}
            }}"
    )
}

/// A network namespace, held by a process that sleeps in it. Gone, with all that is in it, when dropped.
#[derive(Debug)]
struct Namespace(Child);

impl Namespace {
    fn make() -> Self {
        let mut holder = Command::new("unshare");
        holder.args(["-n", "sleep", "600"]).stdin(Stdio::null()).stdout(Stdio::null());
        let namespace = Self(holder.spawn().expect("unshare runs"));
        // It is in its own namespace once it sleeps.
        while std::fs::read_to_string(format!("/proc/{}/comm", namespace.0.id())).unwrap().trim() != "sleep" {
            std::thread::yield_now();
        }
        namespace.run("ip link set lo up");
        namespace
    }

    fn id(&self) -> String {
        self.0.id().to_string()
    }

    fn run(&self, command: &str) {
        let enter = enter(&self.id());
        let status = Command::new(&enter[0]).args(&enter[1..]).args(command.split(' ')).status();
        assert!(status.expect("nsenter runs").success(), "{command}");
    }

    fn load(&self, rules: &str) {
        use std::io::Write;
        let enter = enter(&self.id());
        let mut nft = Command::new(&enter[0]);
        let mut nft = nft
            .args(&enter[1..])
            .args(["nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nsenter runs");
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{rules}");
    }

    /// A cable to `other`.
    fn link(&self, here: &str, other: &Self, there: &str) {
        self.run(&format!("ip link add {here} type veth peer name {there} netns {}", other.id()));
        for (namespace, name) in [(self, here), (other, there)] {
            namespace.run(&format!("ip link set {name} up"));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where all sites are connected.
#[derive(Debug)]
pub(crate) struct Internet(Namespace);

impl Internet {
    /// `None`, after a loud line, where namespaces cannot be made.
    pub(crate) fn make() -> Option<Self> {
        let missing = ["ip", "nft", "sysctl", "unshare", "nsenter"].into_iter().find(|tool| {
            Command::new(tool).arg("--version").output().is_err()
                && Command::new(tool).arg("-V").output().is_err()
        });
        let root = std::fs::read_to_string("/proc/self/status").is_ok_and(|s| s.contains("\nUid:\t0\t"));
        // Containers often have a root that may not do this, or a kernel without some part of it.
        let makes = || {
            let probe = "ip link add near type veth peer name far && nft add table ip t && \
                         nft 'add chain ip t c { type nat hook postrouting priority 100; }' && \
                         nft add rule ip t c masquerade fully-random";
            let made = Command::new("unshare").args(["-n", "sh", "-c", probe]).output();
            made.is_ok_and(|made| made.status.success())
        };
        let (lack, why) = match missing {
            Some(tool) => (
                Lack::Program,
                format!("there is no `{tool}` (Debian: iproute2, nftables, procps, util-linux)"),
            ),
            None if !root => (Lack::Ability, "it has to run as root".to_owned()),
            None if !makes() => {
                (Lack::Ability, "network namespaces with veth and nftables cannot be made here".to_owned())
            }
            None => {
                let internet = Self(Namespace::make());
                for n in 1..=NODES {
                    internet.0.run(&format!("ip addr add 45.10.0.{n}/32 dev lo"));
                }
                internet.0.run("sysctl -qw net.ipv4.ip_forward=1");
                internet.0.load(
                    "table ip filter {
                        chain through { type filter hook forward priority 0; ip ttl < 32 drop; }
                        chain here { type filter hook input priority 0; ip ttl < 32 drop; }
                    }",
                );
                return Some(internet);
            }
        };
        skipped(lack, &format!("the NAT matrix did not run: {why}"));
        None
    }

    pub(crate) fn namespace(&self) -> String {
        self.0.id()
    }

    /// A machine of the internet, as whose only part `wan` has a public address.
    fn machine(&self, number: u8) -> Namespace {
        let (up, machine) = (format!("s{number}"), Namespace::make());
        self.0.link(&up, &machine, "wan");
        self.0.run(&format!("ip addr add 45.10.{number}.1/24 dev {up}"));
        machine.run(&format!("ip addr add 45.10.{number}.2/24 dev wan"));
        machine.run(&format!("ip route add default via 45.10.{number}.1"));
        machine
    }

    /// Connects a site with two hosts that reach each other inside, behind a NAT that lets in only what was asked for, and
    /// either keeps their ports or takes another one for every destination; the namespaces of the hosts, and where the
    /// second is inside.
    pub(crate) fn home(&self, ports: Ports) -> (Home, [String; 2], String) {
        let number = 50 + ports as u8;
        let router = self.machine(number);
        router.run("sysctl -qw net.ipv4.ip_forward=1");
        let hosts = [2, 3].map(|last| {
            let (host, port) = (Namespace::make(), format!("lan{last}"));
            router.link(&port, &host, "eth0");
            // The router is the switch as well: every host has a cable of its own to it.
            router.run(&format!("ip addr add 192.168.{number}.1/32 dev {port}"));
            router.run(&format!("ip route add 192.168.{number}.{last}/32 dev {port}"));
            host.run(&format!("ip addr add 192.168.{number}.{last}/32 dev eth0"));
            host.run(&format!("ip route add 192.168.{number}.1/32 dev eth0"));
            host.run(&format!("ip route add default via 192.168.{number}.1"));
            host
        });
        let masquerade = match ports {
            Ports::Kept => "masquerade",
            Ports::Random => "masquerade fully-random",
        };
        router.load(&rules(masquerade, "continue"));
        let namespaces = hosts.each_ref().map(Namespace::id);
        (Home { _router: router, _hosts: hosts }, namespaces, format!("192.168.{number}.3"))
    }

    /// Connects a site.
    pub(crate) fn site(&self, side: u8, kind: Kind) -> Site {
        let number = 1 + side * 10 + kind as u8;
        let router = self.machine(number);
        if kind == Kind::Open {
            return Site { router, host: None };
        }
        let host = Namespace::make();
        router.link("lan", &host, "eth0");
        router.run(&format!("ip addr add 192.168.{number}.1/24 dev lan"));
        router.run("sysctl -qw net.ipv4.ip_forward=1");
        host.run(&format!("ip addr add 192.168.{number}.2/24 dev eth0"));
        host.run(&format!("ip route add default via 192.168.{number}.1"));
        router.load(&kind.rules(&format!("192.168.{number}.2")));
        Site { router, host: Some(host) }
    }
}

/// Nodes of the DHT.
pub(crate) const NODES: u8 = 12;

/// How a client got to the server at `remote`, as far as can be told from there and from what the client has counted.
pub(crate) fn how(remote: &str, random: u64, consistent: u64, open: u64) -> &'static str {
    match remote {
        _ if remote.starts_with("45.10.0.") => "relay",
        _ if remote.starts_with("192.168.") => "inside",
        _ if random > 0 => "random punch",
        _ if consistent > 0 => "punch",
        _ if open > 0 => "call",
        // The packet that opened our NAT for where the server seemed to be was answered at once, or the server called.
        _ => "first packet",
    }
}

/// The beginning of a command that is to run in this namespace.
pub(crate) fn enter(namespace: &str) -> [String; 4] {
    ["nsenter", "-t", namespace, "-n"].map(str::to_owned)
}

/// A router and two hosts behind it.
#[derive(Debug)]
pub(crate) struct Home {
    _router: Namespace,
    _hosts: [Namespace; 2],
}

/// A router and the host behind it; or the host alone.
#[derive(Debug)]
pub(crate) struct Site {
    router: Namespace,
    host: Option<Namespace>,
}

impl Site {
    /// The namespace of its host.
    pub(crate) fn host(&self) -> String {
        self.host.as_ref().unwrap_or(&self.router).id()
    }
}
