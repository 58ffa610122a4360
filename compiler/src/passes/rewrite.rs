//! What all passes are made of: a walk over the nodes that copies, replaces or drops each.
//!
//! Ids of the old graph become ids of the new one, provenance is kept, and slots, outputs and updates are carried over. A replaced node
//! leaves what it was computed from behind; only dead-code elimination drops that.
//!
//! A [`Rule`] looks at one node whose operands are new nodes already and may return another new node with the same values. What a rule
//! makes is subjected to the rules in its turn, so that a node is in its final form before its users see it.

use super::{PassError, literal};
use kiln_ir::ops::{Broadcast, Effect, Literal, Op, Reshape, Transpose, Unary};
use kiln_ir::{Graph, Node, NodeId, Origin, Output, Provenance, Shape, Slot, TensorType, Update};
use std::sync::Arc;

/// A named rewriting rule.
///
/// It returns `None` where it does not apply, so that matching reads as a chain of `?`. A node that it makes but that does not fit the
/// op's shape rule ends the pass with an error that names the rule.
pub(super) struct Rule {
    /// The name, unique in its family.
    pub(super) name: &'static str,
    /// The node with the same values, if the rule applies.
    pub(super) apply: fn(&mut Rewriter<'_>, &Node) -> Option<NodeId>,
}

/// What becomes of a node.
pub(super) enum Fate {
    /// It is copied.
    Copy,
    /// The new node has the same values.
    Replace(NodeId),
    /// It goes. Nothing that stays may need it.
    Drop,
}

/// Rules make rules apply to what they make; a chain longer than this is a sign of two rules that undo each other, and is cut.
const LONGEST_CHAIN: usize = 200;

/// A new graph in the making, and the old one that it is made from.
pub(super) struct Rewriter<'a> {
    new: Graph,
    map: Vec<Option<NodeId>>,
    /// How often live old nodes, outputs and updates read each old node.
    old_uses: Vec<u32>,
    /// The same for new nodes, summed over the old nodes that they stand for; 0 for those that only rules have made.
    uses: Vec<u32>,
    families: &'a [&'a [Rule]],
    pass: Arc<str>,
    at: (NodeId, Option<Provenance>),
    rule: Option<&'static str>,
    chain: usize,
    error: Option<PassError>,
}

/// The graph in which the families' rules, in order, have been applied to each node, until none applies.
pub(super) fn apply_rules(
    graph: &Graph,
    pass: &str,
    families: &[&[Rule]],
) -> Result<Graph, PassError> {
    rewrite_with(graph, pass, families, |rewriter, _, node| {
        match rewriter.simplify(node) {
            Some(new) => Fate::Replace(new),
            None => Fate::Copy,
        }
    })
}

/// The graph in which `visit` has decided about each node, given with its old id and with new operands.
pub(super) fn rewrite(
    graph: &Graph,
    pass: &str,
    visit: impl FnMut(&mut Rewriter<'_>, NodeId, &Node) -> Fate,
) -> Result<Graph, PassError> {
    rewrite_with(graph, pass, &[], visit)
}

fn rewrite_with(
    graph: &Graph,
    pass: &str,
    families: &[&[Rule]],
    mut visit: impl FnMut(&mut Rewriter<'_>, NodeId, &Node) -> Fate,
) -> Result<Graph, PassError> {
    let mut rewriter = Rewriter {
        new: Graph::empty(&graph.name),
        map: vec![None; graph.len()],
        old_uses: live_uses(graph),
        uses: Vec::new(),
        families,
        pass: Arc::from(pass),
        at: (NodeId::new(0), None),
        rule: None,
        chain: 0,
        error: None,
    };
    for (id, node) in graph.nodes() {
        rewriter.visit(id, node, &mut visit)?;
    }
    rewriter.finish(graph)
}

/// Which nodes any output, update, slot or effect needs.
pub(super) fn live(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.len()];
    let roots = graph.outputs().iter().map(|o| o.node);
    let roots = roots.chain(graph.slots().iter().map(|s| s.node));
    let roots = roots.chain(graph.updates().iter().flat_map(|u| [u.target, u.value]));
    for id in roots {
        if let Some(live) = live.get_mut(id.index()) {
            *live = true;
        }
    }
    for (id, node) in graph.nodes().rev() {
        let effect = node.op.rules().effect();
        live[id.index()] |= matches!(effect, Effect::Fallible | Effect::Host);
        if live[id.index()] {
            for operand in &node.operands {
                if let Some(live) = live.get_mut(operand.index()) {
                    *live = true;
                }
            }
        }
    }
    live
}

/// How often live nodes, outputs and updates read each node.
pub(super) fn live_uses(graph: &Graph) -> Vec<u32> {
    let live = live(graph);
    let mut uses = vec![0u32; graph.len()];
    let users = graph.nodes().filter(|(id, _)| live[id.index()]);
    let reads = users.flat_map(|(_, node)| node.operands.iter().copied());
    let reads = reads.chain(graph.outputs().iter().map(|o| o.node));
    for id in reads.chain(graph.updates().iter().map(|u| u.value)) {
        if let Some(uses) = uses.get_mut(id.index()) {
            *uses += 1;
        }
    }
    uses
}

impl Rewriter<'_> {
    /// The new node. Ids that rules hold come from this graph, so the lookup succeeds.
    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.new.node(id)
    }

    /// What an old node has become, if the walk has passed it and it was not dropped.
    pub(super) fn new_id(&self, old: NodeId) -> Option<NodeId> {
        self.map.get(old.index()).copied().flatten()
    }

    /// The type of a new node.
    pub(super) fn ty(&self, id: NodeId) -> Option<&TensorType> {
        self.new.node(id).map(|n| &n.ty)
    }

    /// Whether exactly one live reader of the old graph reads what the new node stands for.
    pub(super) fn is_read_once(&self, id: NodeId) -> bool {
        self.uses.get(id.index()) == Some(&1)
    }

    /// The operand, where the node is the unary op.
    pub(super) fn as_unary(&self, op: Unary, id: NodeId) -> Option<NodeId> {
        let node = self.node(id)?;
        match (&node.op, node.operands.as_slice()) {
            (Op::Unary(found), [x]) if *found == op => Some(*x),
            _ => None,
        }
    }

    /// The op and its operand, where the node is a transpose.
    pub(super) fn as_transpose(&self, id: NodeId) -> Option<(&Transpose, NodeId)> {
        let node = self.node(id)?;
        match (&node.op, node.operands.as_slice()) {
            (Op::Transpose(op), [x]) => Some((op, *x)),
            _ => None,
        }
    }

    /// The op and its operand, where the node is a broadcast.
    pub(super) fn as_broadcast(&self, id: NodeId) -> Option<(&Broadcast, NodeId)> {
        let node = self.node(id)?;
        match (&node.op, node.operands.as_slice()) {
            (Op::Broadcast(op), [x]) => Some((op, *x)),
            _ => None,
        }
    }

    /// The op and its operand, where the node is a reshape.
    pub(super) fn as_reshape(&self, id: NodeId) -> Option<(&Reshape, NodeId)> {
        let node = self.node(id)?;
        match (&node.op, node.operands.as_slice()) {
            (Op::Reshape(op), [x]) => Some((op, *x)),
            _ => None,
        }
    }

    /// The number, where all elements of the node are that one: a constant, or a constant that was only moved about.
    pub(super) fn splat(&self, mut id: NodeId) -> Option<Literal> {
        loop {
            let node = self.node(id)?;
            match (&node.op, node.operands.as_slice()) {
                (
                    Op::Broadcast(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_),
                    [operand],
                ) => id = *operand,
                _ => return literal::as_splat(&node.op),
            }
        }
    }

    /// A new node, in the form that the rules give it. Its place is that of the old node at work.
    pub(super) fn make(&mut self, op: impl Into<Op>, operands: &[NodeId]) -> Option<NodeId> {
        let op = op.into();
        let types: Option<Vec<&TensorType>> = operands.iter().map(|o| self.ty(*o)).collect();
        let inferred = match types {
            Some(types) => op.rules().infer(&types).map_err(|r| r.message),
            None => Err("an operand does not exist".into()),
        };
        let ty = match inferred {
            Ok(ty) => ty,
            Err(message) => {
                self.fail(message);
                return None;
            }
        };
        let node = Node {
            op,
            operands: operands.to_vec(),
            ty,
            provenance: self.provenance()?,
        };
        match self.simplify(&node) {
            Some(simpler) => Some(simpler),
            None if self.error.is_some() => None,
            None => Some(self.push(node)),
        }
    }

    /// A new constant, all of whose elements are `literal`.
    pub(super) fn constant(&mut self, ty: TensorType, literal: Literal) -> Option<NodeId> {
        self.make(literal::splat(ty, literal), &[])
    }

    /// The node itself, where it has the shape already, or a reshape of it.
    pub(super) fn reshaped(&mut self, id: NodeId, shape: Shape) -> Option<NodeId> {
        if self.ty(id)?.shape == shape {
            Some(id)
        } else {
            self.make(Reshape { shape }, &[id])
        }
    }

    /// What the first rule that applies makes of the node.
    fn simplify(&mut self, node: &Node) -> Option<NodeId> {
        if self.chain >= LONGEST_CHAIN {
            return None;
        }
        let outer = self.rule;
        self.chain += 1;
        let mut result = None;
        for rule in self.families.iter().copied().flatten() {
            self.rule = Some(rule.name);
            result = (rule.apply)(self, node);
            if result.is_some() || self.error.is_some() {
                break;
            }
        }
        self.chain -= 1;
        self.rule = outer;
        let new = result?;
        if self.ty(new) != Some(&node.ty) {
            let found = self.ty(new).map(ToString::to_string).unwrap_or_default();
            self.fail(format!("a value of type {} has become {found}", node.ty));
            return None;
        }
        Some(new)
    }

    fn fail(&mut self, message: String) {
        if self.error.is_none() {
            self.error = Some(PassError {
                node: self.at.0,
                rule: self.rule,
                message,
            });
        }
    }

    fn provenance(&self) -> Option<Provenance> {
        let at = self.at.1.as_ref()?;
        Some(Provenance {
            origin: Origin::Pass(Arc::clone(&self.pass)),
            ..at.clone()
        })
    }

    fn push(&mut self, node: Node) -> NodeId {
        self.uses.push(0);
        self.new.push(node)
    }

    fn mapped(&mut self, id: NodeId) -> Option<NodeId> {
        let new = self.new_id(id);
        if new.is_none() {
            self.fail(format!("{id} is needed but was dropped"));
        }
        new
    }

    fn visit(
        &mut self,
        id: NodeId,
        node: &Node,
        visit: &mut impl FnMut(&mut Self, NodeId, &Node) -> Fate,
    ) -> Result<(), PassError> {
        self.at = (id, Some(node.provenance.clone()));
        // A dropped node has no new operands, so it is judged with what is left of them and must be dropped in its turn.
        let operands: Option<Vec<NodeId>> = node.operands.iter().map(|o| self.new_id(*o)).collect();
        let complete = operands.is_some();
        let node = Node {
            operands: operands.unwrap_or_default(),
            provenance: self.carried(&node.provenance),
            op: node.op.clone(),
            ty: node.ty.clone(),
        };
        let fate = visit(self, id, &node);
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let new = match fate {
            Fate::Copy if !complete => {
                return Err(PassError {
                    node: id,
                    rule: None,
                    message: "an operand was dropped".into(),
                });
            }
            Fate::Copy => self.push(node),
            Fate::Replace(new) => new,
            Fate::Drop => return Ok(()),
        };
        self.map[id.index()] = Some(new);
        let uses = self.old_uses[id.index()];
        if let Some(sum) = self.uses.get_mut(new.index()) {
            *sum = sum.saturating_add(uses);
        }
        Ok(())
    }

    /// The provenance in the new graph. A vjp of a node that was dropped comes from the pass that dropped it.
    fn carried(&self, old: &Provenance) -> Provenance {
        let origin = match &old.origin {
            Origin::Vjp(of) => match self.new_id(*of) {
                Some(new) => Origin::Vjp(new),
                None => Origin::Pass(Arc::clone(&self.pass)),
            },
            Origin::User | Origin::Pass(_) => old.origin.clone(),
        };
        Provenance {
            origin,
            ..old.clone()
        }
    }

    fn finish(mut self, old: &Graph) -> Result<Graph, PassError> {
        self.rule = None;
        for slot in old.slots() {
            if let Some(node) = self.mapped(slot.node) {
                self.new.push_slot(Slot {
                    node,
                    ..slot.clone()
                });
            }
        }
        for output in old.outputs() {
            if let Some(node) = self.mapped(output.node) {
                self.new.push_output(Output {
                    node,
                    ..output.clone()
                });
            }
        }
        for update in old.updates() {
            if let (Some(target), Some(value)) =
                (self.mapped(update.target), self.mapped(update.value))
            {
                self.new.push_update(Update { target, value });
            }
        }
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.new),
        }
    }
}
