//! What a client may ask for, up to the last that is allowed and the first that is not.

mod callers;
mod common;

use bytes::Bytes;
use callers::Client;
use common::Fixture;
use hyperspace_common::{Kind, Method, Outbox, RpcError, code, messages::*};
use tokio::io::AsyncWriteExt;

fn is_limit<R: std::fmt::Debug>(result: Result<R, RpcError>) -> bool {
    result.unwrap_err().code.as_deref() == Some(code::LIMIT)
}

#[tokio::test]
async fn values_beside_a_core_have_a_mebibyte_and_their_names_a_kibibyte() {
    let fixture = Fixture::start().await;
    let mut client = Client::over(fixture.raw().await);
    client.open(0, None).await;
    let set = |name: usize, value: usize| SetUserDataRequest {
        id: 0,
        name: "n".repeat(name),
        value: Some(Bytes::from(vec![b'v'; value])),
    };
    let (name, value) = (1024, 1 << 20);
    client.call::<()>(Method::LogSetUserData, &set(name, value)).await;
    for (name, value) in [(name, value + 1), (name + 1, value), (name + 1, 0)] {
        assert!(is_limit(client.try_call::<()>(Method::LogSetUserData, &set(name, value)).await));
    }
    // And what is there stays.
    let request = UserDataRequest { id: 0, name: "n".repeat(name) };
    let stored: UserDataResponse = client.call(Method::LogUserData, &request).await;
    assert_eq!(stored.value.unwrap().len(), value);
}

#[tokio::test]
async fn namespaces_lie_sixteen_deep() {
    let fixture = Fixture::start().await;
    let mut client = Client::over(fixture.raw().await);
    let named = |id, namespace: &[Bytes]| OpenCoreRequest {
        id,
        name: Some("x".into()),
        namespace: namespace.to_vec(),
        ..OpenCoreRequest::default()
    };
    let names =
        |namespace: &[Bytes]| NamesRequest { namespace: namespace.to_vec(), ..NamesRequest::default() };
    let deep = vec![Bytes::from_static(b"n"); 17];
    let long = [Bytes::from(vec![b'n'; 1025])];
    for namespace in [&deep[..], &long] {
        assert!(is_limit(client.try_call::<()>(Method::StoreOpen, &named(0, namespace)).await));
        assert!(is_limit(client.try_call::<()>(Method::StoreNames, &names(namespace)).await));
    }
    client.call::<OpenCoreResponse>(Method::StoreOpen, &named(0, &deep[..16])).await;
    let listed: NamesResponse = client.call(Method::StoreNames, &names(&deep[..16])).await;
    assert_eq!(listed.cores.len(), 1);
}

#[tokio::test]
async fn a_client_has_sixteen_thousand_extensions() {
    const MOST: u64 = 16_384;
    let fixture = Fixture::start().await;
    let mut client = Client::over(fixture.raw().await);
    client.open(MOST, None).await;
    let register = |resource_id| RegisterExtensionRequest {
        // Those of the network count like those of a core.
        id: if resource_id % 2 == 0 { 0 } else { MOST },
        resource_id,
        name: format!("extension {resource_id}"),
    };
    let method = |resource_id| match resource_id % 2 {
        0 => Method::NetworkRegisterExtension,
        _ => Method::HypercoreRegisterExtension,
    };
    let all: Vec<u64> = (0..MOST).collect();
    for part in all.chunks(1024) {
        let mut outbox = Outbox::new();
        for resource_id in part {
            outbox.request(method(*resource_id), 1_000_000 + resource_id, &register(*resource_id));
        }
        client.raw.stream.write_all(&outbox.take()).await.unwrap();
        for resource_id in part {
            let (header, _) = loop {
                let (header, payload) = client.next().await;
                if header.kind != Kind::Request {
                    break (header, payload);
                }
            };
            assert_eq!((header.kind, header.id), (Kind::Response, 1_000_000 + resource_id));
        }
    }
    for resource_id in [MOST, MOST + 1] {
        let refused = client.try_call::<()>(method(resource_id), &register(resource_id)).await;
        assert!(is_limit(refused));
    }
    let gone = UnregisterExtensionRequest { id: 0, resource_id: 4 };
    client.call::<()>(Method::NetworkUnregisterExtension, &gone).await;
    client.call::<()>(method(MOST), &register(MOST)).await;
}
