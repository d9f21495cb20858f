use super::{CachedNodes, NodeSource, ProofError, TreeHead, locate};
use crate::flat_tree::{self, MAX_LENGTH, Position};
use crate::proof::{
    DataBlock, DataHash, DataSeek, DataUpgrade, Node, Proof, ProofRequest, RequestBlock, RequestSeek,
    RequestUpgrade,
};
use crate::storage::StorageError;

/// Answers a request. The value of a block and the manifest are for the caller to fill in.
///
/// The nodes, and their order, are those that npm `hypercore` 11 answers with.
pub fn prove(head: &TreeHead, source: &dyn NodeSource, request: &ProofRequest) -> Result<Proof, ProofError> {
    let plan = Plan::new(head, source, request)?;
    let known = Known::read(head, source, plan.indexes())?;
    plan.proof(head, &known)
}

/// Answers many requests with one read of all the nodes that they need; neighbouring blocks share most of them.
pub fn prove_many(
    head: &TreeHead,
    source: &dyn NodeSource,
    requests: &[ProofRequest],
) -> Vec<Result<Proof, ProofError>> {
    let sought = CachedNodes::new(source);
    let plans: Vec<_> = requests.iter().map(|request| Plan::new(head, &sought, request)).collect();
    let indexes = plans.iter().flatten().flat_map(Plan::indexes);
    match Known::read(head, source, indexes) {
        Ok(known) => plans.into_iter().map(|plan| plan?.proof(head, &known)).collect(),
        Err(err) => requests.iter().map(|_| Err(ProofError::Storage(err.clone()))).collect(),
    }
}

/// Which nodes a request needs, found without reading them (seeks apart).
struct Plan {
    request: ProofRequest,
    upgrade: Option<RequestUpgrade>,
    node: Option<Vec<u64>>,
    seek: Option<Vec<u64>>,
    upgrade_nodes: Option<Vec<u64>>,
    additional: Vec<u64>,
}

/// A block or hash request in one form.
#[derive(Clone, Copy)]
struct Indexed {
    index: u64,
    nodes: u64,
    has_value: bool,
    last_block: u64,
}

impl Plan {
    fn new(head: &TreeHead, source: &dyn NodeSource, request: &ProofRequest) -> Result<Self, ProofError> {
        let mut plan = Self {
            request: request.clone(),
            upgrade: request.upgrade.map(|upgrade| cover_prologue(head, upgrade)),
            node: None,
            seek: None,
            upgrade_nodes: None,
            additional: Vec::new(),
        };
        if head.length == 0 {
            // An empty log proves nothing; the answer is empty, too.
            plan.request = ProofRequest::default();
            plan.upgrade = None;
            return Ok(plan);
        }
        let end = 2 * head.length;
        let (from, to) = match plan.upgrade {
            Some(upgrade) => bounds(upgrade, head.length)?,
            None => (0, end),
        };
        let indexed = Indexed::new(request)?;
        if request.seek.is_some() && plan.upgrade.is_some() && indexed.is_some_and(|node| node.index >= from)
        {
            return Err(bad("a seek and a block cannot both be in one upgrade"));
        }

        let known = indexed.filter(|node| plan.upgrade.is_none_or(|upgrade| node.last_block < upgrade.start));
        // Something that the asker's upgrade will lead to.
        let mut in_upgrade = None;
        if let Some(node) = known {
            let root = climb_known(node, to)?;
            let seek = match request.seek {
                Some(seek) => Some(locate::seek_below(head, source, root, seek.bytes, seek.padding)?),
                None => None,
            };
            plan.path(Some(node), seek, root)?;
        } else if plan.upgrade.is_some() {
            in_upgrade = match request.seek {
                Some(RequestSeek { bytes, padding }) => Some(locate::seek_roots(source, to, bytes, padding)?),
                None => indexed.map(|node| node.index),
            };
        }
        if plan.upgrade.is_some() {
            let nodes = plan.extension(from, to, indexed, in_upgrade)?;
            plan.upgrade_nodes = Some(nodes);
            if end > to {
                plan.additional = plan.extension(to, end, None, None)?;
            }
        }
        if indexed.is_some() && plan.node.is_none() {
            return Err(bad("the block lies outside of the upgrade"));
        }
        Ok(plan)
    }

    /// The path from a block or node, and from a byte offset, up to `root`.
    fn path(&mut self, node: Option<Indexed>, seek: Option<u64>, root: u64) -> Result<(), ProofError> {
        let Some(node) = node else {
            return self.seek_path(seek, root);
        };
        let mut position = Position::new(node.index);
        let mut nodes = Vec::new();
        if !node.has_value {
            nodes.push(position.index());
        }
        while position.index() != root {
            check_below(position, root)?;
            let sibling = position.sibling();
            match seek {
                // The asker computes this sibling from the nodes of the seek.
                Some(target) if sibling.contains(target) && sibling.index() != target => {
                    self.seek_path(seek, sibling.index())?;
                }
                _ => nodes.push(sibling.index()),
            }
            position = position.parent();
        }
        self.node = Some(nodes);
        Ok(())
    }

    fn seek_path(&mut self, seek: Option<u64>, root: u64) -> Result<(), ProofError> {
        let Some(target) = seek else {
            return Ok(());
        };
        let mut position = Position::new(target);
        let mut nodes = vec![position.index()];
        while position.index() != root {
            check_below(position, root)?;
            nodes.push(position.sibling().index());
            position = position.parent();
        }
        self.seek = Some(nodes);
        Ok(())
    }

    /// What leads from the roots at `from` to those at `to`. Where the asker will compute a node from the path of
    /// `target`, that path takes the node's place.
    fn extension(
        &mut self,
        from: u64,
        to: u64,
        node: Option<Indexed>,
        target: Option<u64>,
    ) -> Result<Vec<u64>, ProofError> {
        let mut nodes = Vec::new();
        for position in extension(from, to) {
            self.node_or_path(position, node, target, &mut nodes)?;
        }
        Ok(nodes)
    }

    fn node_or_path(
        &mut self,
        position: Position,
        node: Option<Indexed>,
        target: Option<u64>,
        nodes: &mut Vec<u64>,
    ) -> Result<(), ProofError> {
        let replaced = target.is_some_and(|target| position.contains(target));
        if replaced && self.node.is_none() && self.seek.is_none() {
            return self.path(
                node,
                target.filter(|_| node.is_none() || self.request.seek.is_some()),
                position.index(),
            );
        }
        nodes.push(position.index());
        Ok(())
    }

    fn indexes(&self) -> impl Iterator<Item = u64> {
        let lists = [&self.node, &self.seek, &self.upgrade_nodes];
        lists.into_iter().flatten().flatten().chain(&self.additional).copied()
    }

    fn proof(self, head: &TreeHead, known: &Known<'_>) -> Result<Proof, ProofError> {
        let node = self.node.map(|indexes| known.nodes(&indexes)).transpose()?;
        let mut proof = Proof { fork: head.fork, ..Proof::default() };
        match (self.request.block, self.request.hash, node) {
            (Some(block), _, Some(nodes)) => {
                proof.block = Some(DataBlock { index: block.index, value: bytes::Bytes::new(), nodes });
            }
            (None, Some(hash), Some(nodes)) => proof.hash = Some(DataHash { index: hash.index, nodes }),
            _ => {}
        }
        if let (Some(seek), Some(indexes)) = (self.request.seek, self.seek) {
            proof.seek = Some(DataSeek { bytes: seek.bytes, nodes: known.nodes(&indexes)? });
        }
        if let (Some(upgrade), Some(indexes)) = (self.upgrade, self.upgrade_nodes) {
            proof.upgrade = Some(DataUpgrade {
                start: upgrade.start,
                length: upgrade.length,
                nodes: known.nodes(&indexes)?,
                additional_nodes: known.nodes(&self.additional)?,
                signature: head.signature.clone(),
            });
        }
        Ok(proof)
    }
}

impl Indexed {
    fn new(request: &ProofRequest) -> Result<Option<Self>, ProofError> {
        let indexed = match (request.block, request.hash) {
            (Some(RequestBlock { index, .. }), _) if index >= MAX_LENGTH => {
                return Err(bad("the block index exceeds what can be counted"));
            }
            (Some(RequestBlock { index, nodes }), _) => {
                Self { index: 2 * index, nodes, has_value: true, last_block: index }
            }
            (None, Some(RequestBlock { index, .. })) if Position::new(index).end_block() > MAX_LENGTH => {
                return Err(bad("the node index exceeds what can be counted"));
            }
            (None, Some(RequestBlock { index, nodes })) => {
                let last_block = flat_tree::right_span(index) / 2;
                Self { index, nodes, has_value: false, last_block }
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(indexed))
    }
}

/// The nodes that lead from the roots at `from` to those at `to` (both twice a length), in the order of a proof.
pub(crate) fn extension(from: u64, to: u64) -> Vec<Position> {
    let mut nodes = Vec::new();
    let last = from.saturating_sub(2);
    let mut connected = from == 0;
    for root in flat_tree::full_roots(to).map(Position::new) {
        if root.right_span() < from {
            continue; // the asker has it
        }
        if !connected && root.contains(last) {
            // The root grew out of one that the asker has: what was added right of its last leaf.
            let mut position = Position::new(last);
            while position != root && position.depth() < root.depth() {
                nodes.extend(Some(position.sibling()).filter(|sibling| sibling.index() > last));
                position = position.parent();
            }
        } else {
            nodes.push(root);
        }
        connected = true;
    }
    nodes
}

/// An upgrade that ends inside the prologue could not be verified: such requests get all of it.
fn cover_prologue(head: &TreeHead, upgrade: RequestUpgrade) -> RequestUpgrade {
    match head.prologue {
        Some(prologue) if upgrade.start < prologue.length => {
            RequestUpgrade { start: 0, length: prologue.length }
        }
        _ => upgrade,
    }
}

/// Twice the lengths between which an upgrade leads.
fn bounds(upgrade: RequestUpgrade, length: u64) -> Result<(u64, u64), ProofError> {
    let end = upgrade.start.checked_add(upgrade.length).filter(|end| *end > upgrade.start && *end <= length);
    let end = end.ok_or_else(|| bad("the upgrade is empty or reaches beyond the log"))?;
    Ok((2 * upgrade.start, 2 * end))
}

/// The node that the asker says it has: `nodes` levels above the one that it asks for.
fn climb_known(node: Indexed, to: u64) -> Result<u64, ProofError> {
    let mut position = Position::new(node.index);
    if position.right_span() >= to {
        return Err(bad("the block lies beyond the log"));
    }
    for _ in 0..node.nodes {
        position = position.parent();
        if position.contains(to) {
            return Err(bad("the path reaches beyond the log"));
        }
    }
    Ok(position.index())
}

/// Climbing ends: from a node that is not below `root` it never gets there.
fn check_below(position: Position, root: u64) -> Result<(), ProofError> {
    if Position::new(root).contains(position.index()) && position.depth() < Position::new(root).depth() {
        return Ok(());
    }
    Err(bad("the seek and the block have no path in common"))
}

fn bad(reason: &'static str) -> ProofError {
    ProofError::BadRequest { reason }
}

/// Nodes that were read, and the roots, which need no reading.
struct Known<'a> {
    head: &'a TreeHead,
    /// In the order of their index.
    read: Vec<Node>,
}

impl<'a> Known<'a> {
    fn read(
        head: &'a TreeHead,
        source: &dyn NodeSource,
        indexes: impl Iterator<Item = u64>,
    ) -> Result<Self, StorageError> {
        let mut missing: Vec<u64> = indexes.filter(|index| head.root(*index).is_none()).collect();
        missing.sort_unstable();
        missing.dedup();
        let nodes = source.nodes(&missing)?.into_iter().flatten();
        Ok(Self { head, read: nodes.collect() })
    }

    fn node(&self, index: u64) -> Option<&Node> {
        let read = self.read.binary_search_by_key(&index, |node| node.index).ok();
        read.and_then(|place| self.read.get(place)).or_else(|| self.head.root(index))
    }

    fn nodes(&self, indexes: &[u64]) -> Result<Vec<Node>, ProofError> {
        let node = |&index: &u64| self.node(index).copied().ok_or(ProofError::MissingNode { index });
        indexes.iter().map(node).collect()
    }
}
