//! Names yield the keys that npm `corestore` 7.12.5 yields from the same primary key.

use corestore::{Corestore, DEFAULT_NAMESPACE};
use hypercore::storage::{Alias, Database};
use serde_json::Value;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn names_yield_the_keys_of_js() {
    let store = Corestore::from_database_with_primary_key(Database::memory(), [1; 32]).unwrap();
    let mut checked = 0;
    for line in include_str!("vectors/names.jsonl").lines() {
        let js: Value = serde_json::from_str(line).unwrap();
        let mut inner = store.clone();
        for name in js["namespaces"].as_array().unwrap() {
            inner = inner.namespace(name.as_str().unwrap());
        }
        let name = js["name"].as_str().unwrap();
        let pair = inner.key_pair(name);
        assert_eq!(hex(&pair.public()), js["publicKey"].as_str().unwrap(), "{line}");
        assert_eq!(hex(pair.secret_bytes().as_slice()), js["secretKey"].as_str().unwrap(), "{line}");
        let core = inner.get(name).unwrap();
        assert_eq!(core.key().to_hex(), js["key"].as_str().unwrap(), "{line}");
        assert_eq!(core.discovery_key().to_hex(), js["discoveryKey"].as_str().unwrap(), "{line}");
        let (alias, discovery_key) =
            inner.names().map(Result::unwrap).find(|(alias, _)| alias.name == name).unwrap();
        assert_eq!(hex(&alias.namespace), js["namespace"].as_str().unwrap(), "{line}");
        assert_eq!(discovery_key, core.discovery_key());
        checked += 1;
    }
    assert_eq!(checked, 30);
    assert_eq!(store.list().count(), 30);
    let outer: Vec<Alias> = store.names().map(|entry| entry.unwrap().0).collect();
    assert!(outer.iter().all(|alias| alias.namespace == DEFAULT_NAMESPACE));
    assert_eq!(outer.len(), 5);
}
