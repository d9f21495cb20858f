//! The services, methods and events of npm `@hyperspace/rpc`, as it is installed, by name and number.

use std::{fs, path::Path};

use hyperspace_common::Method;
use interop::Node;

/// A method: its service's number and name, and its own.
type Numbered = (u64, String, u64, String);

/// What lies between these two in a line.
fn between<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(line.split_once(before)?.1.split_once(after)?.0.trim())
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is a number"))
}

/// The methods of `schema.proto`.
fn of_schema(text: &str) -> Vec<Numbered> {
    let (mut service, mut service_number, mut methods) = (String::new(), 0, Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("service ").and_then(|rest| rest.split_once(' ')) {
            service = name.0.into();
        } else if let Some(of_service) = between(line, "(hrpc.service) = ", ";") {
            service_number = number(of_service);
        } else if let Some(name) = between(line, "rpc ", "(") {
            let method = between(line, "(hrpc.method) = ", ";").expect("a method has its number in its line");
            methods.push((service_number, service.clone(), number(method), name.into()));
        }
    }
    methods.sort();
    methods
}

/// The methods of the module that was made of it, which is what runs.
fn of_module(text: &str) -> Vec<Numbered> {
    let (mut service, mut service_number, mut methods) = (String::new(), 0, Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = between(line, "class HRPCService", " ") {
            service = name.into();
        } else if let Some(of_service) = between(line, "defineService({ id: ", " })") {
            service_number = number(of_service);
        } else if let Some(name) = between(line, "this._", " = service.defineMethod({") {
            let method = between(lines.next().expect("a method has a number"), "id: ", ",");
            let name = name[..1].to_uppercase() + &name[1..];
            methods.push((service_number, service.clone(), number(method.expect("a number")), name));
        }
    }
    methods.sort();
    methods
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_those_of_the_package() {
    if Node::find().await.is_none() {
        return;
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../interop/js-hyperspace/node_modules/@hyperspace/rpc");
    let read = |file| fs::read_to_string(package.join(file)).unwrap();
    // Those from 16 on are our own.
    let theirs = Method::ALL.iter().filter(|method| (method.service() as u64) < 16);
    let mut ours: Vec<Numbered> = theirs
        .map(|method| {
            let service = method.service();
            (service as u64, format!("{service:?}"), method.number(), method.name().into())
        })
        .collect();
    ours.sort();
    assert_eq!(ours.len(), 41);
    assert_eq!(of_schema(&read("schema.proto")), ours);
    assert_eq!(of_module(&read("index.js")), ours);
}
