//! `examples/browser` in headless Chromium: a page opens a core of the daemon over WebSocket.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use hyperspace_client::{AccessToken, HyperspaceClient};
use hyperspace_server::{Limits, Server, ServerOptions};
use interop::{Lack, Node, Peer, json, skipped};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A browser with a tab, and the daemon that its page is to reach.
struct Fixture {
    browser: Peer,
    server: Server,
    client: HyperspaceClient,
    profile: tempfile::TempDir,
}

impl Fixture {
    async fn start() -> Option<Self> {
        let node = Node::find().await?;
        let Some(chromium) = chromium() else {
            let why = "no Chromium ($CHROMIUM, or chromium, chromium-browser, google-chrome on PATH); the example for \
                       browsers was not tested in one";
            skipped(Lack::Program, why);
            return None;
        };
        let options = ServerOptions {
            ws_listen: Some("127.0.0.1:0".into()),
            tokens: vec![TOKEN.parse::<AccessToken>().unwrap()],
            // As long as a browser on a slow machine may need.
            limits: Limits { admission: interop::DEADLINE, ..Limits::default() },
            ..ServerOptions::default()
        };
        let server = Server::start(options).await.unwrap();
        let (near, far) = tokio::io::duplex(65_536);
        tokio::spawn(server.serve(far));
        let client = HyperspaceClient::from_stream(near);
        let profile = tempfile::tempdir().unwrap();
        let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/browser");
        let arguments = [chromium, profile.path().into(), pages];
        let browser = node.run("js/browser.js", arguments).await;
        Some(Self { browser, server, client, profile })
    }

    fn daemon(&self) -> String {
        format!("ws://{}", self.server.ws_address().unwrap())
    }

    /// Opens the page with its fields filled in, and presses the button.
    async fn open(&self, host: &str, token: &str, core: &str) {
        let path = format!("#daemon={}&token={token}&core={core}", self.daemon());
        self.browser.ask("page", json!({ "host": host, "path": path })).await;
        self.evaluate("document.getElementById('open').requestSubmit()").await;
    }

    async fn evaluate(&self, expression: &str) -> interop::Value {
        self.browser.ask("evaluate", json!({ "expression": expression })).await
    }

    async fn until(&self, expression: &str) {
        self.browser.ask("until", json!({ "expression": expression })).await;
    }

    async fn until_shown(&self, id: &str, text: &str) {
        self.until(&format!("document.getElementById({id:?}).textContent.includes({text:?})")).await;
    }

    async fn end(self) {
        self.browser.close().await;
        self.client.close();
        self.server.stop().await;
        drop(self.profile);
    }
}

fn chromium() -> Option<PathBuf> {
    if let Some(program) = env::var_os("CHROMIUM").filter(|program| !program.is_empty()) {
        return Some(program.into());
    }
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut programs = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    programs.find(|program| fs::metadata(program).is_ok_and(|meta| meta.is_file()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_opens_reads_appends_and_follows() {
    let Some(fixture) = Fixture::start().await else { return };
    let log = fixture.client.corestore().get_by_name("diary").await.unwrap();
    log.append_blocks(&["A block that was there before".into(), "<b>Markup is text</b>".into()])
        .await
        .unwrap();

    fixture.open("127.0.0.1", TOKEN, "diary").await;
    fixture.until_shown("state", "Connected to daemon").await;
    fixture.until_shown("blocks", "<b>Markup is text</b>").await;
    assert_eq!(fixture.evaluate("document.getElementById('key').textContent").await, log.key().to_string());
    assert_eq!(fixture.evaluate("location.hash").await, "", "the token does not stay in the address bar");

    // Live, from elsewhere...
    log.append("From a program in Rust, while the page looks on").await.unwrap();
    fixture.until_shown("blocks", "while the page looks on").await;
    fixture.until_shown("length", "3 blocks").await;

    // ... and from the page.
    fixture
        .evaluate(
            "document.getElementById('text').value = 'Ein Gruß aus dem Browser 👋'; \
             document.getElementById('append').requestSubmit()",
        )
        .await;
    fixture.until_shown("blocks", "Gruß").await;
    assert_eq!(log.get(3).await.unwrap(), "Ein Gruß aus dem Browser 👋");
    if let Some(file) = env::var_os("BROWSER_SCREENSHOT") {
        fixture.browser.ask("screenshot", json!({ "file": file.to_str().unwrap() })).await;
    }
    let complaints = fixture.browser.ask("complaints", json!({})).await;
    assert_eq!(complaints, json!([]));

    // The daemon's end is told.
    let Fixture { browser, server, client, profile } = fixture;
    server.stop().await;
    let expression = "document.getElementById('state').textContent.includes('the server ends')";
    browser.ask("until", json!({ "expression": expression })).await;
    browser.close().await;
    drop((client, profile));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_without_the_token_or_of_others_stay_out() {
    let Some(fixture) = Fixture::start().await else { return };
    fixture.open("127.0.0.1", "ffffffffffffffffffffffffffffffff", "diary").await;
    fixture.until_shown("state", "the access token is wrong").await;
    // A page of somebody else, whose name leads to this machine, does not come in though it had the token.
    fixture.open("evil.example", TOKEN, "diary").await;
    fixture.until_shown("state", "this page may not connect").await;
    assert_eq!(fixture.server.client_count(), 1);
    fixture.open("localhost", TOKEN, "diary").await;
    fixture.until_shown("state", "Connected to daemon").await;
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_module_does_what_it_says() {
    let Some(fixture) = Fixture::start().await else { return };
    let foreign = "ab".repeat(32);
    fixture.browser.ask("page", json!({})).await;
    let script = format!(
        r#"(async () => {{
            const {{ connect, toHex, fromHex, DaemonError }} = await import('/hyperspace.js')
            const same = (a, b, what) => {{
                if (JSON.stringify(a) !== JSON.stringify(b)) throw new Error(`${{what}}: ${{JSON.stringify(a)}} is not ${{JSON.stringify(b)}}`)
            }}
            const fails = async (promise, text) => {{
                const error = await promise.then(() => null, (error) => error)
                if (!(error instanceof Error) || !error.message.includes(text)) throw new Error(`not "${{text}}": ${{error}}`)
            }}
            const text = (bytes) => new TextDecoder().decode(bytes)
            const options = {{ token: '{TOKEN}' }}
            const [one, two] = await Promise.all([connect('{daemon}', options), connect('{daemon}/any/path', options)])
            same((await one.status()).apiVersion, '1.15.0', 'version')

            const core = await one.open()
            same([core.length, core.writable, core.key.length], [0, true, 64], 'a new core')
            same(await core.append(['one', new Uint8Array([116, 119, 111]), '']), 0, 'the first index')
            same([core.length, core.byteLength], [3, 6], 'the event is there before the answer')
            same(text(await core.get(1)), 'two', 'a block')
            same((await core.get(2)).length, 0, 'an empty block')
            await fails(core.get(99), 'Block not available from peers')

            // What does not fit into one message, in both directions, and much of it at once.
            const large = new Uint8Array(5 << 20).map((_, i) => i * 7)
            await core.append([large, large, large, large])
            const back = await core.get(6)
            same([back.length, back[1], back[5000000]], [large.length, 7, large[5000000]], 'a large block')
            await fails(core.append(new Uint8Array((8 << 20) + 1)), 'Individual blocks')
            const many = Array.from({{ length: 2000 }}, (_, i) => 'block ' + i)
            await Promise.all(many.map((block) => core.append(block)))
            const read = await Promise.all(many.map((_, i) => core.get(7 + i)))
            same(read.map(text), many, 'many blocks')

            // The other connection sees them come.
            const twin = await two.open({{ key: core.key }})
            same([twin.length, twin.key, toHex(fromHex(twin.key)) === twin.key], [2007, core.key, true], 'the twin')
            const followed = (async () => {{
                const seen = []
                for await (const {{ index, block }} of twin.follow(2005)) {{
                    seen.push([index, text(block)])
                    if (seen.length === 4) return seen
                }}
            }})()
            await core.append('x')
            await core.append('y')
            same(await followed, [[2005, 'block 1998'], [2006, 'block 1999'], [2007, 'x'], [2008, 'y']], 'followed')

            const other = await one.open({{ key: '{foreign}' }})
            same(other.writable, false, 'a core of others')
            await fails(other.append('x'), 'not writable')
            await fails(other.update(), 'No update available')
            await fails(one.open({{ key: 'nonsense' }}), '64 hexadecimal digits')

            const closing = twin.follow(9999).next()
            await twin.close()
            await fails(closing, 'closed')
            two.close()
            await fails(two.status(), 'ended')
            const shut = await connect('{daemon}')
            await fails(shut.open({{ name: 'a' }}), 'access token')
            await fails(connect('{daemon}', {{ token: 'no' }}), 'access token is wrong')
            await fails(connect('ws://127.0.0.1:1'), 'nobody answers')
            return 'all of it'
        }})()"#,
        daemon = fixture.daemon(),
    );
    assert_eq!(fixture.evaluate(&script).await, "all of it");
    fixture.end().await;
}
