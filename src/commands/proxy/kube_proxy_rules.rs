//! What kube-proxy has left in the kernel: its iptables chains, its nftables table, and what its mode
//! IPVS makes.
//!
//! Mirrors `CleanupLeftovers` of `pkg/proxy/iptables`, `pkg/proxy/nftables` and `pkg/proxy/ipvs`. What to remove is
//! worked out of what `iptables-save` prints; the filters' own tools carry it out. Chains of the
//! kubelet and of others stay, and so does a chain of kube-proxy that a chain of others jumps to.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Say what is there, or remove it. A tool that is missing has no rules to show.
pub(super) fn look(clear: bool) {
    for tool in IPTABLES {
        let Some(saved) = output(&format!("{tool}-save"), &[]) else { continue };
        let clearing = clearing(&saved);
        if clearing.chains == 0 {
            continue;
        }
        let Clearing { chains, rules, input } = clearing;
        if !clear {
            tracing::warn!(
                tool,
                chains,
                rules,
                "kube-proxy's rules are still there: --clear-kube-proxy-rules removes them"
            );
        } else if feed(&format!("{tool}-restore"), &["--noflush"], &input) {
            tracing::info!(tool, chains, rules, "removed kube-proxy's rules");
        }
    }
    for family in nftables_families(&output("nft", &["list", "tables"]).unwrap_or_default()) {
        if !clear {
            tracing::warn!(
                family,
                "kube-proxy's nftables table is still there: --clear-kube-proxy-rules removes it"
            );
        } else if output("nft", &["delete", "table", family, "kube-proxy"]).is_some() {
            tracing::info!(family, "removed kube-proxy's nftables table");
        }
    }
    look_for_ipvs(clear);
}

/// The virtual servers answer at the addresses of a link of kube-proxy's. As its own clean-up does, all
/// virtual servers go, and its sets of addresses, which the chains have named.
fn look_for_ipvs(clear: bool) {
    let sets = output("ipset", &["list", "-name"]).unwrap_or_default();
    let sets: Vec<&str> = sets.lines().filter(|name| name.starts_with("KUBE-")).collect();
    let link = Path::new("/sys/class/net").join(IPVS_LINK).exists();
    if !link && sets.is_empty() {
        return;
    }
    if !clear {
        let sets = sets.len();
        tracing::warn!(
            link,
            sets,
            "kube-proxy's IPVS servers are still there: --clear-kube-proxy-rules removes them"
        );
        return;
    }
    if link {
        // Without the addresses nothing comes to the servers, whether or not there is the tool.
        let gone = output("ip", &["link", "delete", IPVS_LINK]).is_some();
        let cleared = output("ipvsadm", &["--clear"]).is_some();
        tracing::info!(gone, cleared, link = IPVS_LINK, "removed kube-proxy's IPVS servers");
    }
    for set in sets {
        if output("ipset", &["destroy", set]).is_some() {
            tracing::info!(set, "removed kube-proxy's set of addresses");
        }
    }
}

/// The standard output of a tool; `None` if there is no such tool or it fails, which is logged.
fn output(tool: &str, args: &[&str]) -> Option<String> {
    let ran = Command::new(tool).args(args).stdin(Stdio::null()).output().ok()?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        tracing::debug!(tool, said = said.trim(), "look for kube-proxy's rules");
        return None;
    }
    Some(String::from_utf8_lossy(&ran.stdout).into_owned())
}

fn feed(tool: &str, args: &[&str], input: &str) -> bool {
    let run = || -> std::io::Result<std::process::Output> {
        let mut child = Command::new(tool)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    match run() {
        Ok(ran) if ran.status.success() => true,
        Ok(ran) => {
            let said = String::from_utf8_lossy(&ran.stderr);
            tracing::error!(tool, said = said.trim(), "remove kube-proxy's rules");
            false
        }
        Err(error) => {
            tracing::error!(tool, %error, "remove kube-proxy's rules");
            false
        }
    }
}

/// What removes kube-proxy's chains.
#[derive(Debug, Default, PartialEq, Eq)]
struct Clearing {
    chains: usize,
    /// In those chains, and the jumps to them.
    rules: usize,
    /// For `iptables-restore --noflush`.
    input: String,
}

fn clearing(saved: &str) -> Clearing {
    let mut clearing = Clearing::default();
    let mut lines = saved.lines();
    while let Some(line) = lines.next() {
        if let Some(table) = line.strip_prefix('*') {
            let of_table: Vec<&str> = lines.by_ref().take_while(|line| *line != "COMMIT").collect();
            clear_table(table, &of_table, &mut clearing);
        }
    }
    clearing
}

fn clear_table(table: &str, lines: &[&str], clearing: &mut Clearing) {
    let rules = || lines.iter().filter_map(|line| Rule::parse(line));
    let is_built_in = |chain: &str| !chain.contains('-') && chain.to_uppercase() == chain;
    let kept: BTreeSet<&str> = rules()
        .filter(|rule| !is_kube_proxys(rule.chain) && !is_built_in(rule.chain))
        .map(|rule| rule.target)
        .collect();
    let chains: BTreeSet<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix(':')?.split(' ').next())
        .filter(|chain| is_kube_proxys(chain) && !kept.contains(chain))
        .collect();
    if chains.is_empty() {
        return;
    }
    let mut text = format!("*{table}\n");
    // Declaring a chain empties it.
    for chain in &chains {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    for rule in rules() {
        if chains.contains(rule.chain) {
            clearing.rules += 1;
        } else if chains.contains(rule.target) {
            clearing.rules += 1;
            let _ = writeln!(text, "-D{}", rule.text.strip_prefix("-A").unwrap_or(rule.text));
        }
    }
    for chain in &chains {
        let _ = writeln!(text, "-X {chain}");
    }
    text.push_str("COMMIT\n");
    clearing.chains += chains.len();
    clearing.input.push_str(&text);
}

/// `-A CHAIN ... -j TARGET ...`
struct Rule<'a> {
    text: &'a str,
    chain: &'a str,
    target: &'a str,
}

impl<'a> Rule<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut words = text.strip_prefix("-A ")?.split(' ');
        let chain = words.next()?;
        let target = words.skip_while(|word| !matches!(*word, "-j" | "-g")).nth(1).unwrap_or("");
        Some(Self { text, chain, target })
    }
}

fn is_kube_proxys(chain: &str) -> bool {
    CHAINS.contains(&chain) || CHAIN_PREFIXES.iter().any(|prefix| chain.starts_with(prefix))
}

/// The families that have a table of kube-proxy's.
fn nftables_families(tables: &str) -> Vec<&'static str> {
    let has = |family: &str| {
        tables.lines().any(|line| line.trim() == format!("table {family} kube-proxy"))
    };
    ["ip", "ip6"].into_iter().filter(|family| has(family)).collect()
}

/// What `pkg/proxy/ipvs` calls its dummy link (`defaultDummyDevice`).
const IPVS_LINK: &str = "kube-ipvs0";

/// Of either back end, if both are installed.
const IPTABLES: [&str; 4] = ["iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy"];

const CHAINS: [&str; 12] = [
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-FORWARD",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
    "KUBE-LOAD-BALANCER",
    "KUBE-MARK-MASQ",
    "KUBE-NODE-PORT",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-PROXY-CANARY",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SERVICES",
];

const CHAIN_PREFIXES: [&str; 6] =
    ["KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", "KUBE-SVC-", "KUBE-SVL-", "KUBE-XLB-"];

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "\
# Generated by iptables-save
*mangle
:PREROUTING ACCEPT [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [10:600]
:OUTPUT ACCEPT [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SEP-AAAA - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-BBBB - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -d 10.0.0.1/32 -j ACCEPT
-A CNI-HOSTPORT-SETMARK -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -j KUBE-SVC-BBBB
-A KUBE-SVC-BBBB -j KUBE-SEP-AAAA
-A KUBE-SEP-AAAA -s 10.244.0.2/32 -j KUBE-MARK-MASQ
COMMIT
";

    #[test]
    fn kube_proxys_chains_go_and_others_stay() {
        let Clearing { chains, rules, input } = clearing(SAVED);
        assert_eq!((chains, rules), (3, 4));
        let expected = "\
*nat
:KUBE-SEP-AAAA - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-BBBB - [0:0]
-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-X KUBE-SEP-AAAA
-X KUBE-SERVICES
-X KUBE-SVC-BBBB
COMMIT
";
        assert_eq!(input, expected);
    }

    #[test]
    fn nothing_of_kube_proxys_is_nothing_to_do() {
        let without: String = SAVED
            .lines()
            .filter(|line| !line.contains("KUBE-S"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(clearing(&without), Clearing::default());
        assert_eq!(clearing(""), Clearing::default());
        assert_eq!(clearing("*nat\n-A\n:\nCOMMIT"), Clearing::default());
    }

    #[test]
    fn tables_are_known_by_their_name() {
        let tables = "table ip kube-proxy\ntable ip6 nat\ntable inet kube-proxy-like\n";
        assert_eq!(nftables_families(tables), ["ip"]);
    }
}
