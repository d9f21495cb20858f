//! The client operations as methods of the node.

use std::net::SocketAddr;

use bytes::Bytes;
use futures::Stream;
use secret_stream::KeyPair;

use super::{
    AnnounceOptions, Announced, BatchOptions, FindPeer, ImmutableValue, MutableGetOptions, MutableValue,
    Stored, TopicQuery,
};
use crate::HyperDht;
use crate::messages::MutableRecord;
use crate::rpc::{NodeId, QueryOptions, RpcError};

impl HyperDht {
    /// [`client::lookup`](super::lookup): who announces a topic.
    pub fn lookup(&self, topic: NodeId, options: QueryOptions) -> Result<TopicQuery, RpcError> {
        super::lookup(self.rpc(), topic, options)
    }

    /// [`client::announce`](super::announce): announces `key_pair` under a topic.
    pub fn announce(
        &self,
        topic: NodeId,
        key_pair: &KeyPair,
        relay_addresses: &[SocketAddr],
        options: AnnounceOptions,
    ) -> Result<TopicQuery, RpcError> {
        if options.clear {
            self.forget(&topic, key_pair);
        }
        super::announce(self.rpc(), topic, key_pair, relay_addresses, options)
    }

    /// [`client::announce_many`](super::announce_many): announces `key_pair` under many topics, a few at a time.
    pub fn announce_many(
        &self,
        topics: Vec<NodeId>,
        key_pair: &KeyPair,
        relay_addresses: &[SocketAddr],
        options: BatchOptions,
    ) -> impl Stream<Item = Announced> + Send + Unpin + use<> {
        super::announce_many(self.rpc(), topics, key_pair, relay_addresses, options)
    }

    /// [`client::lookup_and_unannounce`](super::lookup_and_unannounce): takes an announcement back on the way.
    pub fn lookup_and_unannounce(
        &self,
        topic: NodeId,
        key_pair: &KeyPair,
        options: QueryOptions,
    ) -> Result<TopicQuery, RpcError> {
        self.forget(&topic, key_pair);
        super::lookup_and_unannounce(self.rpc(), topic, key_pair, options)
    }

    /// [`client::unannounce`](super::unannounce): takes an announcement back.
    pub async fn unannounce(
        &self,
        topic: NodeId,
        key_pair: &KeyPair,
        options: QueryOptions,
    ) -> Result<(), RpcError> {
        self.forget(&topic, key_pair);
        super::unannounce(self.rpc(), topic, key_pair, options).await
    }

    /// [`client::find_peer`](super::find_peer): which nodes know a server.
    pub fn find_peer(&self, public_key: &[u8; 32], options: QueryOptions) -> Result<FindPeer, RpcError> {
        super::find_peer(self.rpc(), public_key, options)
    }

    /// [`client::immutable_get`](super::immutable_get): the value with a hash.
    pub async fn immutable_get(
        &self,
        hash: NodeId,
        options: QueryOptions,
    ) -> Result<Option<ImmutableValue>, RpcError> {
        super::immutable_get(self.rpc(), hash, options).await
    }

    /// [`client::immutable_put`](super::immutable_put): stores a value under its hash.
    pub async fn immutable_put(
        &self,
        value: Bytes,
        options: QueryOptions,
    ) -> Result<(NodeId, Stored), RpcError> {
        super::immutable_put(self.rpc(), value, options).await
    }

    /// [`client::mutable_get`](super::mutable_get): the record under a public key.
    pub async fn mutable_get(
        &self,
        public_key: [u8; 32],
        options: MutableGetOptions,
    ) -> Result<Option<MutableValue>, RpcError> {
        super::mutable_get(self.rpc(), public_key, options).await
    }

    /// [`client::mutable_put`](super::mutable_put): stores a value under the public key of `key_pair`.
    pub async fn mutable_put(
        &self,
        key_pair: &KeyPair,
        seq: u64,
        value: Bytes,
        options: QueryOptions,
    ) -> Result<(MutableRecord, Stored), RpcError> {
        super::mutable_put(self.rpc(), key_pair, seq, value, options).await
    }

    /// What this node itself keeps of the announcement: a query does not ask the node it starts from.
    fn forget(&self, topic: &NodeId, key_pair: &KeyPair) {
        crate::core::lock(&self.core().store).unannounce(topic, &key_pair.public);
    }
}
