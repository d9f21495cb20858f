use super::*;
use futures::FutureExt;
use hyperspace_common::{Decoder, decode};

fn append(session: u64, length: u64) -> Event {
    Event::Append { session, length, byte_length: 10 * length }
}

fn lengths(mailbox: &Mailbox) -> Vec<u64> {
    let mut outbox = Outbox::new();
    mailbox.drain(&mut outbox);
    let bytes = outbox.take();
    let mut at = 0;
    let mut lengths = Vec::new();
    while let Some(frame) = Decoder::default().next(&bytes[at..]).unwrap() {
        let event: AppendEvent = decode(&bytes[at..][frame.payload]).unwrap();
        lengths.push(event.length);
        at += frame.end;
    }
    lengths
}

#[test]
fn whoever_is_at_work_is_not_woken_and_finds_it_when_asking_again() {
    let mailbox = Mailbox::default();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let context = Context::from_waker(&waker);
    assert!(!mailbox.register(&context));
    mailbox.at_work();
    mailbox.push(append(0, 1));
    assert!(woken.0.notified().now_or_never().is_none());
    assert!(mailbox.register(&context));
    assert_eq!(lengths(&mailbox), [1]);
    assert!(!mailbox.register(&context));
    mailbox.push(append(0, 2));
    assert!(woken.0.notified().now_or_never().is_some());
}

#[test]
fn one_append_one_event() {
    let mailbox = Mailbox::default();
    for length in 1..=100 {
        mailbox.push(append(0, length));
    }
    assert_eq!(lengths(&mailbox), (1..=100).collect::<Vec<_>>());
}

#[test]
fn a_client_that_falls_behind_gets_the_newest_length_only() {
    let mailbox = Mailbox::default();
    for length in 1..=1_000_000 {
        mailbox.push(append(0, length));
    }
    let lengths = lengths(&mailbox);
    assert_eq!(lengths.len(), GATHER_FROM);
    assert_eq!(lengths.last(), Some(&1_000_000));
}

#[tokio::test(start_paused = true)]
async fn news_from_peers_waits_for_more_but_not_for_long() {
    let mailbox = Arc::new(Mailbox::default());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let context = Context::from_waker(&waker);
    let start = Instant::now();
    for length in 1..=3 {
        mailbox.push_patient(append(0, length));
        mailbox.push_patient(append(1, length));
        assert!(!mailbox.register(&context), "nothing is urgent");
    }
    woken.0.notified().await;
    assert!(start.elapsed() >= PATIENCE);
    assert!(mailbox.register(&context));
    assert_eq!(lengths(&mailbox), [3, 3], "one event for each session");

    // Patience begins anew with what comes after.
    mailbox.push_patient(append(0, 4));
    assert!(mailbox.is_patient() && !mailbox.register(&context));
    assert_eq!(lengths(&mailbox), [4], "asked for something, the client is told at once");
    tokio::time::sleep(PATIENCE / 2).await;
    let start = Instant::now();
    mailbox.push_patient(append(0, 5));
    assert!(!mailbox.register(&context));
    woken.0.notified().await;
    assert!(start.elapsed() >= PATIENCE);

    // It goes with whatever is urgent, in order.
    mailbox.push_patient(append(0, 6));
    mailbox.push(append(1, 7));
    mailbox.push_patient(append(0, 8));
    assert!(mailbox.register(&context) && !mailbox.is_patient());
    assert_eq!(lengths(&mailbox), [5, 6, 7, 8]);

    // And when somebody waits for it to be told.
    mailbox.push_patient(append(0, 9));
    assert!(mailbox.untold().is_some());
    assert!(mailbox.register(&context));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_is_told_of_with_what_it_does_first_or_soon() {
    let mailbox = Arc::new(Mailbox::default());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let context = Context::from_waker(&waker);
    let peer = |key| {
        let (remote_address, kind) = ("there".into(), "udx".into());
        Arc::new(PeerInfo { remote_public_key: [key; 32], remote_address, kind })
    };
    let add = |key| Event::NetworkPeerAdd { peer: peer(key) };
    let open = |key| Event::PeerOpen { session: 3, peer: peer(key) };
    let bytes = |events: &[Event]| {
        let mut outbox = Outbox::new();
        events.iter().cloned().for_each(|event| event.write(&mut outbox));
        outbox.take()
    };
    let urgent = || {
        let mut outbox = Outbox::new();
        assert!(mailbox.drain_urgent(&mut outbox).is_some());
        outbox.take()
    };
    mailbox.push_newcomer(peer(1));
    mailbox.open_network();
    assert!(!mailbox.register(&context) && urgent().is_empty(), "the client did not ask for it");

    // With a core that it opens, whatever others do.
    mailbox.push_newcomer(peer(1));
    mailbox.push_newcomer(peer(2));
    assert!(!mailbox.register(&context) && woken.0.notified().now_or_never().is_none());
    mailbox.push(open(1));
    assert!(woken.0.notified().now_or_never().is_some() && mailbox.register(&context));
    assert_eq!(urgent(), bytes(&[add(1), open(1)]));
    assert!(!mailbox.register(&context));
    mailbox.push(Event::NetworkPeerRemove { peer: peer(2) });
    assert!(woken.0.notified().now_or_never().is_some());
    assert_eq!(urgent(), bytes(&[add(2), Event::NetworkPeerRemove { peer: peer(2) }]));

    // Soon, each for itself, also when others take their time.
    let start = Instant::now();
    mailbox.push_newcomer(peer(3));
    tokio::time::sleep(ACQUAINTANCE / 2).await;
    mailbox.push_newcomer(peer(4));
    for key in [3, 4] {
        assert!(!mailbox.register(&context));
        woken.0.notified().await;
        assert!(start.elapsed() >= ACQUAINTANCE && mailbox.register(&context));
        assert_eq!(urgent(), bytes(&[add(key)]));
    }
    assert!(start.elapsed() < 2 * ACQUAINTANCE);

    // At once when the client asks for something.
    mailbox.push_newcomer(peer(5));
    assert!(mailbox.is_patient());
    let mut outbox = Outbox::new();
    assert!(mailbox.drain(&mut outbox).is_some());
    assert_eq!(outbox.take(), bytes(&[add(5)]));
    assert!(!mailbox.is_patient() && !mailbox.register(&context));
}

#[derive(Default)]
struct Woken(Notify);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

#[test]
fn what_a_client_leaves_unread_is_bounded() {
    let mailbox = Mailbox::new(1 << 20);
    let context = Context::from_waker(Waker::noop());
    for length in 0..1 << 20 {
        // Of two sessions in turn, so that nothing is gathered.
        mailbox.push(append(length % 2, length));
        assert!(mailbox.unread() <= 1 << 20);
    }
    assert_eq!(mailbox.hold(&context), None);
    let mut outbox = Outbox::new();
    assert!(mailbox.drain(&mut outbox).is_none());
    assert!(outbox.len() < 1 << 20, "a frame is no larger than what its event counts for");
}

#[test]
fn what_the_connection_cannot_write_counts() {
    let mailbox = Mailbox::new(1 << 20);
    mailbox.written((1 << 20) - EVENT_BYTES, true);
    mailbox.push(append(0, 1));
    assert!(mailbox.hold(&Context::from_waker(Waker::noop())).is_some());
    mailbox.push(append(0, 2));
    assert!(mailbox.hold(&Context::from_waker(Waker::noop())).is_none());
}

#[test]
fn it_is_known_whether_everything_was_told() {
    use futures::FutureExt;
    let mailbox = Mailbox::default();
    assert_eq!(mailbox.untold(), None);
    mailbox.push(append(0, 1));
    let event = mailbox.untold().unwrap();
    mailbox.drain(&mut Outbox::new());
    assert!(mailbox.told(event).now_or_never().is_none());
    mailbox.written(0, false);
    assert!(mailbox.told(event).now_or_never().is_some());
    mailbox.push(append(0, 2));
    let event = mailbox.untold().unwrap();
    mailbox.written(0, false);
    assert!(mailbox.told(event).now_or_never().is_none(), "it was not turned into a frame yet");
    mailbox.written(1, true);
    assert!(mailbox.told(event).now_or_never().is_some(), "nobody waits for a client that does not read");
    mailbox.push(append(0, 3));
    mailbox.gone();
    assert_eq!(mailbox.untold(), None);
}

#[test]
fn extension_messages_are_bounded() {
    let mailbox = Mailbox::default();
    let data = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..100 {
        let data = data.clone();
        mailbox.push(Event::Extension { session: 0, resource: 0, remote: [0; 32], data });
    }
    let mut outbox = Outbox::new();
    mailbox.push(append(0, 1));
    assert!(mailbox.drain(&mut outbox).is_some(), "messages are lost, and nothing else");
    assert_eq!(outbox.len() >> 20, ((MAX_UNREAD / 2) >> 20) - 1);
}

#[test]
fn who_waits_is_woken_once_an_event_is_there() {
    let mailbox = Mailbox::default();
    let context = Context::from_waker(Waker::noop());
    assert!(!mailbox.register(&context));
    mailbox.push(append(0, 1));
    assert!(mailbox.register(&context));
}
