//! Where others are told to find a server.
//!
//! It is what the operator wrote, word for word: a name stays a name, for certificates are made out to
//! it, and it is looked up again at every try. Only a port that was left open is the one that was found.
//! Every address of a machine (`0.0.0.0`, `::`) can be listened at and is nowhere to be found: whoever
//! dialed it would reach itself.

use std::net::IpAddr;

/// What others are told of an address that was configured, once it is `bound`.
pub(crate) fn advertised(configured: &str, bound: &str) -> String {
    match (configured.rsplit_once(':'), bound.rsplit_once(':')) {
        (Some((host, port)), Some((_, found))) if port.parse() == Ok(0_u16) => {
            format!("{host}:{found}")
        }
        (_, _) => configured.to_owned(),
    }
}

/// Whether a `HOST:PORT` means every address of whatever machine reads it.
pub(crate) fn is_unspecified(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, _)| is_unspecified_host(host))
}

/// The same of the host of a URL.
pub(crate) fn is_unspecified_url(url: &str) -> bool {
    url.parse::<hyper::Uri>().is_ok_and(|url| url.host().is_some_and(is_unspecified_host))
}

fn is_unspecified_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // The system takes `0` for `0.0.0.0`.
    let is_zero = !host.is_empty() && host.chars().all(|digit| matches!(digit, '0' | '.'));
    is_zero || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_open_port_is_filled_in() {
        assert_eq!(advertised("db4.example:9001", "10.0.0.4:9001"), "db4.example:9001");
        assert_eq!(advertised("localhost:0", "127.0.0.1:4711"), "localhost:4711");
        assert_eq!(advertised("[::1]:0", "[::1]:4711"), "[::1]:4711");
        assert_eq!(advertised("/run/raft/1", "/run/raft/1"), "/run/raft/1", "of another transport");
    }

    #[test]
    fn every_address_is_none() {
        for everywhere in ["0.0.0.0:1", "[::]:1", ":::1", "0:1", "[::ffff:0.0.0.0]:1"] {
            assert!(is_unspecified(everywhere), "{everywhere}");
        }
        for somewhere in ["10.0.0.0:1", "[::1]:1", "db0:1", "localhost:0", "server-1", ":1"] {
            assert!(!is_unspecified(somewhere), "{somewhere}");
        }
        assert!(is_unspecified_url("http://0.0.0.0:8001"));
        assert!(is_unspecified_url("https://[::]:8001/"));
        assert!(!is_unspecified_url("http://db0:8001") && !is_unspecified_url("no url"));
    }
}
