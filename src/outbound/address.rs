//! Which addresses are public, judged by the address that a packet would really reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[allow(clippy::ip_constant, reason = "the networks stand in one spelling")]
/// Networks of version 4 that are not the public internet, or that lead to a cloud's own services.
const CLOSED_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Whether an address belongs to the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match unwrapped(address) {
        IpAddr::V4(address) => !CLOSED_V4.iter().any(|(network, bits)| {
            let mask = u32::MAX << (32 - bits);
            address.to_bits() & mask == network.to_bits() & mask
        }),
        IpAddr::V6(address) => {
            let [first, second, ..] = address.segments();
            let global = first & 0xe000 == 0x2000;
            // 2001::/23 holds tunnels and protocol assignments, the other two are for documentation.
            let closed =
                (first == 0x2001 && (second < 0x0200 || second == 0x0db8)) || (first == 0x3fff && second < 0x1000);
            global && !closed
        }
    }
}

/// The address of version 4 that an address of version 6 stands for, where it does.
#[allow(clippy::many_single_char_names, reason = "eight groups of an address, in their order")]
#[allow(clippy::match_same_arms, reason = "one arm a notation")]
pub fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let [a, b, c, d, e, f, g, h] = six.segments();
    let four = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match [a, b, c, d, e, f] {
        // mapped, NAT64
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => four(g, h),
        // 6to4
        [0x2002, ..] => four(b, c),
        // compatible; the unspecified address and loopback fall in here too and stay closed either way
        [0, 0, 0, 0, 0, 0] => four(g, h),
        _ => address,
    }
}

/// What a host in an address names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A literal address, whatever its spelling.
    Address(IpAddr),
    /// A name, in lower case and without dots at its end.
    Name(String),
}

impl Host {
    /// Reads a host as a resolver of the system would. `None`: neither a name nor an address, or ambiguous.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(literal) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return literal.parse::<Ipv6Addr>().ok().map(|address| Self::Address(address.into()));
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Some(Self::Address(address.into()));
        }
        let name = text.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let plain = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > 253 || !name.split('.').all(plain) {
            return None;
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
            return short_v4(name).map(|address| Self::Address(address.into()));
        }
        Some(Self::Name(name.to_owned()))
    }
}

/// An address of version 4 with one to four parts, each decimal, octal or hexadecimal; the last fills what is left.
fn short_v4(text: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| match part.strip_prefix("0x") {
        Some("") => Some(0),
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if part.len() > 1 && part.starts_with('0') => u32::from_str_radix(part, 8).ok(),
        None => part.parse::<u32>().ok(),
    };
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, leading) = parts.split_last()?;
    if leading.len() > 3 || leading.iter().any(|part| *part > 255) {
        return None;
    }
    let room = 32 - 8 * u32::try_from(leading.len()).ok()?;
    if u64::from(*last) >= 1_u64 << room {
        return None;
    }
    let high = leading.iter().zip([24, 16, 8]).fold(0, |bits, (part, shift)| bits | part << shift);
    Some(Ipv4Addr::from_bits(high | last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_the_address() {
        let loopback = Some(Host::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        for text in
            ["127.0.0.1", "127.1", "127.0.1", "0x7f.1", "2130706433", "0x7f000001", "017700000001", "0177.0.0.01"]
        {
            assert_eq!(Host::parse(text), loopback, "{text}");
            assert_eq!(Host::parse(&format!("{text}.")), loopback, "{text}.");
        }
        assert_eq!(Host::parse("LocalHost."), Some(Host::Name("localhost".into())));
        for text in [
            "",
            ".",
            "a..b",
            "1.2.3.4.5",
            "256.1.1.1",
            "127.0.0.1..",
            "fe80::1%eth0",
            "１２７.0.0.1",
            "a b",
            "0x",
            "1.08",
        ] {
            let parsed = Host::parse(text);
            assert!(
                parsed.is_none() || parsed == Some(Host::Address(Ipv4Addr::UNSPECIFIED.into())),
                "{text}: {parsed:?}"
            );
        }
    }

    #[test]
    fn addresses_on_both_sides_of_each_border_are_told_apart() {
        for (closed, public) in [
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("100.63.255.255", false),
            ("100.64.0.0", true),
            ("100.127.255.255", true),
            ("100.128.0.0", false),
            ("172.15.255.255", false),
            ("172.16.0.0", true),
            ("172.31.255.255", true),
            ("172.32.0.0", false),
            ("198.17.255.255", false),
            ("198.18.0.0", true),
            ("198.19.255.255", true),
            ("198.20.0.0", false),
            ("223.255.255.255", false),
            ("224.0.0.0", true),
            ("255.255.255.255", true),
            ("8.8.8.8", false),
            ("::", true),
            ("::1", true),
            ("::ffff:10.0.0.1", true),
            ("::ffff:8.8.8.8", false),
            ("::127.0.0.1", true),
            ("64:ff9b::10.0.0.1", true),
            ("64:ff9b::8.8.8.8", false),
            ("64:ff9b:1::1", true),
            ("2002:7f00:1::", true),
            ("2002:808:808::", false),
            ("2001::1", true),
            ("2001:db8::1", true),
            ("2001:4860:4860::8888", false),
            ("fe80::1", true),
            ("fc00::1", true),
            ("fec0::1", true),
            ("ff02::1", true),
            ("3fff::1", true),
        ]
        .map(|(text, closed)| (text, !closed))
        {
            assert_eq!(is_public(closed.parse().unwrap()), public, "{closed}");
        }
    }
}
