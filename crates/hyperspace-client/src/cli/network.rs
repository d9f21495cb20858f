//! `seed`, `unseed` and `network status`: what the daemon does in the network for its cores.

use std::{
    collections::HashMap,
    io::{self, IsTerminal, Write},
};

use anyhow::{Result, bail};
use futures::TryStreamExt;
use hypercore::{DiscoveryKey, Key};
use hyperspace_client::{ClientError, ConfigureOptions, HyperspaceClient, RemoteHypercore, TopicStatus};
use serde_json::{Value, json};

use super::{
    options::CoreChoice,
    output::{Format, line},
};

/// A core, as far as it is known without opening it.
struct Known {
    key: Option<Key>,
    name: Option<String>,
}

/// Has the daemon offer a core to the network from now on, also when it was started anew.
pub(crate) async fn seed(
    client: &HyperspaceClient,
    core: &RemoteHypercore,
    name: Option<&str>,
    format: Format,
) -> Result<()> {
    // Whoever writes a core needs nobody to get it from.
    let wish = if core.writable() { ConfigureOptions::ANNOUNCE } else { ConfigureOptions::JOIN };
    let (network, topic_of) = (client.network(), core.discovery_key());
    let announced = |status: Option<TopicStatus>| match status.filter(|status| status.announce) {
        Some(status) => Ok(status),
        None => bail!("the daemon announces nothing: it runs with --no-announce"),
    };
    // Remembered only when it is done: whoever is told that it failed expects nothing of the daemon's next start.
    announced(network.configure(&topic_of, wish).await?)?;
    let waiting = Waiting::show("announcing it...", format);
    let status = network.configure(&topic_of, wish.remembered().flushed()).await?;
    drop(waiting);
    let status = announced(status)?;
    if !core.writable() {
        // How much is missing is known only once those who were found have said what there is.
        let _ = core.update().await;
    }
    let length = core.length();
    let stored = core.downloaded(0..length).await?;
    if format.json {
        let mut said = topic(&status, Some(core.key()), name, format);
        said["length"] = length.into();
        said["stored"] = stored.into();
        return line(said);
    }
    line(format_args!("seeding {}", format.key(core.key().as_bytes())))?;
    line(format_args!("{length} blocks, {stored} stored here"))?;
    if stored < length {
        line("`download` fetches the others: so far, peers cannot get them here")?;
    }
    if client.status().await?.remote_address.is_empty() {
        line("so far nobody finds them: the daemon has no address in the network; is it offline?")?;
    }
    Ok(())
}

/// Has the daemon offer a core no more, and forget that it did.
pub(crate) async fn unseed(client: &HyperspaceClient, choice: &CoreChoice, format: Format) -> Result<()> {
    let topic_of = topic_of(client, choice).await?;
    // Remembered as something to do nothing for: the store keeps nothing of it, and a Node daemon does not join it
    // again.
    let waiting = Waiting::show("taking the announcement back...", format);
    let status =
        client.network().configure(&topic_of, ConfigureOptions::LEAVE.remembered().flushed()).await?;
    drop(waiting);
    if format.json {
        let gone = TopicStatus { discovery_key: topic_of, announce: false, lookup: false, remember: false };
        let status = status.unwrap_or(gone);
        let key = match choice.key {
            None => known(client, &[status]).await?.remove(&topic_of).and_then(|known| known.key),
            key => key,
        };
        return line(topic(&status, key, choice.name.as_deref(), format));
    }
    match status.filter(|status| status.announce) {
        None => line("not seeded any more"),
        Some(_) => {
            line("not remembered any more; still announced, as another client has it open or wants it")
        }
    }
}

/// Prints the daemon's place in the network, and what it does for which topic.
pub(crate) async fn status(client: &HyperspaceClient, choice: &CoreChoice, format: Format) -> Result<()> {
    let network = client.network();
    let (info, status) = (network.info().await?, client.status().await?);
    let mut topics = if choice.is_some() {
        network.status(&topic_of(client, choice).await?).await?.into_iter().collect()
    } else {
        network.all_statuses().await?
    };
    topics.sort_by_key(|status| status.discovery_key);
    let known = known(client, &topics).await?;
    let public_key = format.key(&info.public_key);
    if format.json {
        let topics: Vec<Value> = topics
            .iter()
            .map(|status| {
                let known = known.get(&status.discovery_key);
                let name = known.and_then(|known| known.name.as_deref());
                topic(status, known.and_then(|known| known.key), name, format)
            })
            .collect();
        return line(json!({
            "publicKey": public_key,
            "remoteAddress": status.remote_address,
            "holepunchable": status.holepunchable,
            "peers": info.peers.iter().map(|peer| format.peer(peer)).collect::<Vec<_>>(),
            "topics": topics,
        }));
    }
    line(format_args!("public key    {public_key}"))?;
    line(format_args!("address       {}", shown_address(&status.remote_address)))?;
    line(format_args!("holepunchable {}", shown_maybe(status.holepunchable)))?;
    line(format_args!("peers         {}", info.peers.len()))?;
    line(format_args!("topics        {}", topics.len()))?;
    if topics.is_empty() {
        return Ok(());
    }
    let width = if format.z32 { 52 } else { 64 };
    line(format_args!("\n{:width$} ANNOUNCED LOOKED-UP REMEMBERED  NAME", "KEY"))?;
    for status in topics {
        let known = known.get(&status.discovery_key);
        let name = known.and_then(|known| known.name.as_deref());
        let (key, name) = match known.and_then(|known| known.key) {
            Some(key) => (format.key(key.as_bytes()), name.unwrap_or_default()),
            // A core that is not stored here: all that is known is the topic.
            None => (format.key(status.discovery_key.as_bytes()), "(discovery key)"),
        };
        let [announce, lookup, remember] = [status.announce, status.lookup, status.remember].map(yes);
        line(format!("{key} {announce:9} {lookup:9} {remember:10}  {name}").trim_end())?;
    }
    Ok(())
}

/// Where others see the daemon.
pub(crate) fn shown_address(address: &str) -> &str {
    if address.is_empty() { "unknown" } else { address }
}

/// What may not be known yet.
pub(crate) fn shown_maybe(what: Option<bool>) -> &'static str {
    what.map_or("unknown", yes)
}

fn yes(what: bool) -> &'static str {
    if what { "yes" } else { "no" }
}

fn topic(status: &TopicStatus, key: Option<Key>, name: Option<&str>, format: Format) -> Value {
    json!({
        "key": key.map(|key| format.key(key.as_bytes())),
        "discoveryKey": format.key(status.discovery_key.as_bytes()),
        "name": name,
        "announce": status.announce,
        "lookup": status.lookup,
        "remember": status.remember,
    })
}

/// The topic of a core that is not to be opened, as that alone may have the daemon announce it.
async fn topic_of(client: &HyperspaceClient, choice: &CoreChoice) -> Result<DiscoveryKey> {
    let name = match (&choice.key, &choice.name) {
        (Some(key), _) => return Ok(key.discovery_key()),
        (None, Some(name)) => name,
        (None, None) => bail!("say which core is meant: with -n NAME or -k KEY"),
    };
    let store = client.corestore();
    let mut names = std::pin::pin!(store.names());
    loop {
        match names.try_next().await {
            Ok(Some((known, topic))) if known == *name => return Ok(topic),
            Ok(Some(_)) => {}
            Ok(None) => bail!("there is no core with the name {name}"),
            // The Node daemon has no list.
            Err(ClientError::Rpc(_)) => return Ok(store.get_by_name(name).await?.discovery_key()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The stored cores among these topics. The Node daemon cannot say.
async fn known(
    client: &HyperspaceClient,
    topics: &[TopicStatus],
) -> Result<HashMap<DiscoveryKey, Known>, ClientError> {
    let mut known: HashMap<_, _> =
        topics.iter().map(|status| (status.discovery_key, Known { key: None, name: None })).collect();
    if known.is_empty() {
        return Ok(known);
    }
    let store = client.corestore();
    let filled = async {
        let mut cores = std::pin::pin!(store.list());
        while let Some(core) = cores.try_next().await? {
            if let Some(known) = known.get_mut(&core.discovery_key) {
                known.key = Some(core.key);
            }
        }
        let mut names = std::pin::pin!(store.names());
        while let Some((name, topic)) = names.try_next().await? {
            if let Some(known) = known.get_mut(&topic) {
                known.name = Some(name);
            }
        }
        Ok(())
    };
    match filled.await {
        Ok(()) | Err(ClientError::Rpc(_)) => Ok(known),
        Err(error) => Err(error),
    }
}

/// A line for somebody who waits, gone when it is dropped.
struct Waiting {
    shown: bool,
}

impl Waiting {
    fn show(what: &str, format: Format) -> Self {
        let shown = io::stderr().is_terminal() && !format.json;
        if shown {
            let mut err = io::stderr().lock();
            let _ = write!(err, "{what}").and_then(|()| err.flush());
        }
        Self { shown }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.shown {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\x1b[K").and_then(|()| err.flush());
        }
    }
}
