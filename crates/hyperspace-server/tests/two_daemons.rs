//! Two daemons whose Node clients find one another in the swarm: what they are told and answered is the same with this
//! daemon as with npm `hyperspace` 3.19.0 (`interop/js-hyperspace/two-daemons.js` has the program).

use std::process::{Command, Stdio};

use interop::{Node, Value, in_own_network, json, within};

/// What the program says, step by step. Only the first update is left out: see below.
fn expected() -> Vec<Value> {
    let status = |announce: bool, lookup: bool| json!({ "discoveryKey": "topic", "announce": announce, "lookup": lookup, "remember": false });
    let met = |other: &str, more: &[Value]| {
        let mut told = vec![
            json!(["core extension", { "message": format!("chat from {other}"), "from": other }]),
            json!(["core peer-open", { "remotePublicKey": other }]),
            json!(["network extension", { "message": format!("hello from {other}"), "from": other }]),
            json!(["network peer-add", { "remotePublicKey": other, "address": "string" }]),
        ];
        told.splice(0..0, more.iter().cloned());
        json!({ "told": told, "wrong": [] })
    };
    let (nobody, no_update) = ("Block not available from peers", "No update available from peers");
    let append = |length: u64| json!(["core append", { "length": length }]);
    let steps = [
        ("before", json!([[append(2)], [], 0, nobody, no_update])),
        ("announce", status(true, false)),
        ("lookup", status(false, true)),
        ("get", json!("two")),
        ("update again", json!(no_update)),
        ("told a", met("b", &[])),
        ("told b", met("a", &[append(2)])),
        ("peers", json!([1, 1, 1, 1])),
        ("status", json!([status(true, false), status(false, true)])),
        ("allStatuses", json!([[status(true, false)], [status(false, true)]])),
        ("appended", json!([[append(4)], [append(4)], 4])),
        ("broadcast", json!([[], [["network extension", { "message": "to all", "from": "a" }]]])),
        ("late", json!([["a"], ["a"], 4])),
        ("late status", status(false, true)),
        ("late configures", status(true, true)),
        ("leave", Value::Null),
        ("left", json!([null, []])),
        (
            "gone",
            json!({
                "told": [
                    ["core peer-remove", { "remotePublicKey": "a" }],
                    ["network peer-remove", { "remotePublicKey": "a", "address": "string" }],
                ],
                "wrong": [],
            }),
        ),
        ("alone", json!([0, 0, nobody, nobody, no_update])),
    ];
    steps.map(|(step, what)| json!({ "step": step, "what": what })).into()
}

fn same(steps: &[Value]) {
    for (step, expected) in steps.iter().zip(&expected()) {
        assert!(step == expected, "{step}\nexpected: {expected}");
    }
    assert_eq!(steps.len(), expected().len());
}

/// Runs the program; what it said, and what came of the first update.
async fn steps(mut command: Command) -> (Vec<Value>, Value) {
    let folder = tempfile::tempdir().unwrap();
    command
        .env("HYPERSPACE_SERVER", env!("CARGO_BIN_EXE_hyperspace-server"))
        .env("TMPDIR", folder.path())
        .env_remove("HYPERSPACE_SOCKET")
        .stdin(Stdio::null());
    let output = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output = within("the program", output).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let parse = |line: &str| -> Value { line.parse().unwrap() };
    let (updates, mut steps): (Vec<_>, Vec<_>) =
        said.lines().map(parse).partition(|step| step["step"] == "update");
    for step in &mut steps {
        // JavaScript leaves out what is undefined.
        step["what"] = step["what"].take();
    }
    (steps, updates[0]["what"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_and_answered_what_they_are_by_the_node_daemon() {
    let Some(node) = Node::find().await else { return };
    let (steps, update) = steps(node.command("js-hyperspace/two-daemons.js", [""; 0])).await;
    same(&steps);
    // The lookup was not waited for, and is under way: that is no reason to give up.
    assert_eq!(update, "done");
}

/// Its first update mostly fails: it does not wait until the peer that was found has said what it has.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_daemon_does_as_is_expected_here() {
    let Some(node) = Node::find().await else { return };
    // In a network of its own, as it looks for peers around it; and it takes none at 127.0.0.1.
    let address = "10.9.0.1";
    let program = node.command("js-hyperspace/two-daemons.js", ["--node", address]);
    let Some(command) = in_own_network(address, &program, "the Node daemon was not asked") else { return };
    let (steps, update) = steps(command).await;
    same(&steps);
    assert!(update == "done" || update == "No update available from peers", "{update}");
}
