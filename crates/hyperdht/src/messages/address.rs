//! Addresses: 4 or 16 bytes of host, then the port, little endian.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use compact_codec::{DecodeError, Reader, Writer};

/// Bytes of an IPv4 address with its port.
const IPV4_LEN: usize = 6;
/// Bytes of an IPv6 address with its port.
const IPV6_LEN: usize = 18;

/// The address as the IPv4-only fields carry it; none when it is no IPv4 address (mapped ones are).
pub fn ipv4(address: SocketAddr) -> Option<SocketAddrV4> {
    match address {
        SocketAddr::V4(v4) => Some(v4),
        SocketAddr::V6(v6) => Some(SocketAddrV4::new(v6.ip().to_ipv4_mapped()?, v6.port())),
    }
}

/// Addresses from a message as the sockets take them.
pub fn socket_addrs(addresses: &[SocketAddrV4]) -> Vec<SocketAddr> {
    addresses.iter().copied().map(SocketAddr::V4).collect()
}

pub(super) fn write_v4(writer: &mut Writer, address: &SocketAddrV4) {
    writer.raw(&address.ip().octets());
    writer.raw(&address.port().to_le_bytes());
}

pub(super) fn read_v4(reader: &mut Reader) -> Result<SocketAddrV4, DecodeError> {
    let host = Ipv4Addr::from(reader.array::<4>("IPv4 address")?);
    Ok(SocketAddrV4::new(host, read_port(reader)?))
}

pub(super) fn write_v4_list(writer: &mut Writer, addresses: &[SocketAddrV4]) {
    writer.list(addresses, write_v4);
}

pub(super) fn read_v4_list(reader: &mut Reader) -> Result<Vec<SocketAddrV4>, DecodeError> {
    reader.list("IPv4 addresses", IPV4_LEN, read_v4)
}

pub(super) fn write_v6_list(writer: &mut Writer, addresses: &[SocketAddrV6]) {
    writer.list(addresses, |writer, address| {
        writer.raw(&address.ip().octets());
        writer.raw(&address.port().to_le_bytes());
    });
}

pub(super) fn read_v6_list(reader: &mut Reader) -> Result<Vec<SocketAddrV6>, DecodeError> {
    reader.list("IPv6 addresses", IPV6_LEN, |reader| {
        let host = Ipv6Addr::from(reader.array::<16>("IPv6 address")?);
        Ok(SocketAddrV6::new(host, read_port(reader)?, 0, 0))
    })
}

fn read_port(reader: &mut Reader) -> Result<u16, DecodeError> {
    Ok(u16::from_le_bytes(reader.array("port")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_ipv4() {
        let v4: SocketAddrV4 = "1.2.3.4:5".parse().unwrap();
        assert_eq!(ipv4(SocketAddr::V4(v4)), Some(v4));
        assert_eq!(ipv4("[::ffff:1.2.3.4]:5".parse().unwrap()), Some(v4));
        assert_eq!(ipv4("[::1]:5".parse().unwrap()), None);
    }
}
