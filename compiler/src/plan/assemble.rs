//! Steps over buffers, with live ranges.

use super::buffers::Homes;
use super::extents::share_kernels;
use super::schedule::{Item, Schedule};
use super::{Bodies, Planned, live};
use crate::fusion::{ProductOperand, Strided};
use crate::kernel::{
    Access, Expr, Index, Kernel, Loop, LoopId, LoopKind, Param, ParamId, Stmt, ValueId,
};
use crate::lower::{
    CompoundShape, Contraction, ConvolutionShape, LoweredGroup, LoweredKernel, ParamSource,
    ProductShape,
};
use kiln_ir::ops::Op;
use kiln_ir::program::{
    Convolution, Home, Launch, LiveRange, Matrix, Port, Product, Program, Requirement, Resident,
    Step, View,
};
use kiln_ir::{BufferId, DType, Dim, Graph, KernelId, NodeId, Role, Update};
use std::collections::BTreeMap;

pub(super) struct Assembler<'g> {
    pub(super) graph: &'g Graph,
    pub(super) bodies: &'g Bodies,
    pub(super) homes: Homes,
    pub(super) kernels: Vec<Kernel>,
    pub(super) steps: Vec<Step>,
    /// Scratch rows that launches share: type, elements, and which of a launch's rows it is.
    scratch: Vec<(DType, Dim, usize, BufferId)>,
    /// The blocks of reductions that one launch folds on the side and another finishes. They have a buffer of their own and never share
    /// that of an operand, since a kernel of rows writes them all the while.
    blocks: BTreeMap<NodeId, BufferId>,
}

pub(super) fn assemble(
    graph: &Graph,
    groups: &[LoweredGroup],
    bodies: &Bodies,
    schedule: &Schedule,
    homes: Homes,
    requirements: Vec<Requirement>,
) -> Planned {
    let mut assembler = Assembler {
        graph,
        bodies,
        homes,
        kernels: Vec::new(),
        steps: Vec::new(),
        scratch: Vec::new(),
        blocks: BTreeMap::new(),
    };
    for item in &schedule.items {
        assembler.item(groups, item);
    }
    let mut steps = std::mem::take(&mut assembler.steps);
    share_kernels(&mut assembler.kernels, &mut steps);
    let mut buffers = assembler.homes.buffers;
    live::set_ranges(&mut buffers, &steps);
    let of = &assembler.homes.of;
    let at = |node: NodeId| of[node.index()].unwrap_or(BufferId::new(usize::MAX));
    let port = |name: &str, node: NodeId| {
        Some(Port {
            name: name.to_owned(),
            ty: graph.node(node)?.ty.clone(),
            buffer: at(node),
        })
    };
    let inputs = graph.slots().iter().filter(|s| s.role == Role::Input);
    let residents = graph.slots().iter().filter(|s| s.role != Role::Input);
    let program = Program {
        name: graph.name.clone(),
        inputs: inputs.filter_map(|s| port(&s.name, s.node)).collect(),
        residents: residents
            .filter_map(|s| {
                let Port { name, ty, buffer } = port(&s.name, s.node)?;
                Some(Resident {
                    name,
                    role: s.role.clone(),
                    ty,
                    buffer,
                })
            })
            .collect(),
        outputs: graph
            .outputs()
            .iter()
            .filter_map(|o| port(&o.name, o.node))
            .collect(),
        buffers,
        kernels: assembler.kernels.iter().map(|k| k.name.clone()).collect(),
        requirements,
        steps,
    };
    Planned {
        program,
        kernels: assembler.kernels,
    }
}

impl Assembler<'_> {
    /// Appends the steps of an item.
    fn item(&mut self, groups: &[LoweredGroup], item: &Item) {
        match item {
            Item::Groups(together) => {
                let mut parts = Vec::new();
                for group in together {
                    let group = &groups[*group];
                    if let Some(shape) = &group.compound {
                        self.compound(shape);
                    }
                    let launch = group.kernel.as_ref().map(|k| self.launch(k));
                    match &group.product {
                        Some(Contraction::Product(product)) => {
                            let product = self.product(product, launch);
                            self.steps.push(Step::Product(product));
                        }
                        Some(Contraction::Convolution(convolution)) => {
                            let convolution = self.convolution(convolution, launch);
                            self.steps.push(Step::Convolution(convolution));
                        }
                        None => parts.extend(launch),
                    }
                }
                if !parts.is_empty() {
                    self.steps.push(Step::Kernel(parts));
                }
            }
            Item::Guard(condition, guard) => {
                let mut guard = guard.clone();
                guard.condition = self.at(*condition);
                self.steps.push(Step::Guard(guard));
            }
            Item::Writes(updates) => {
                let parts = updates.iter().filter_map(|u| self.write(u)).collect();
                self.steps.push(Step::Kernel(parts));
            }
        }
    }

    /// Appends the steps of a compound op.
    fn compound(&mut self, shape: &CompoundShape) {
        let Some(node) = self.graph.node(shape.node) else {
            return;
        };
        if let Op::CustomCall(call) = &node.op {
            self.custom_call(shape, node, call);
        } else {
            self.control(shape, &node.op);
        }
    }

    /// The copy of an update's value to its target.
    fn write(&mut self, update: &Update) -> Option<Launch> {
        let ty = &self.graph.node(update.target)?.ty;
        let lowered = copy(ty.dtype, ty.shape.elements());
        Some(Launch {
            kernel: self.kernel(&lowered.kernel),
            arguments: vec![self.at(update.value), self.at(update.target)],
            access: vec![Access::Read, Access::Write],
            sizes: lowered.kernel.sizes(),
            total: lowered.total,
            grain: lowered.grain,
            work: lowered.work,
        })
    }

    /// Every node that a step names has a buffer; an id out of range would be refused by the program's verifier.
    pub(super) fn at(&self, node: NodeId) -> BufferId {
        self.homes.of[node.index()].unwrap_or(BufferId::new(usize::MAX))
    }

    fn launch(&mut self, lowered: &LoweredKernel) -> Launch {
        let lowered = match &lowered.over {
            Some(over) if self.at(over.base) == self.at(over.target) => &over.lowered,
            Some(_) | None => lowered,
        };
        let mut rows = 0;
        let mut arguments = Vec::new();
        for source in &lowered.params {
            arguments.push(match source {
                ParamSource::Node(node) => self.at(*node),
                ParamSource::Scratch(dtype, elements) => {
                    rows += 1;
                    self.scratch_row(*dtype, elements, rows - 1)
                }
                ParamSource::Blocks(node, dtype, elements) => self.blocks(*node, *dtype, elements),
            });
        }
        Launch {
            kernel: self.kernel(&lowered.kernel),
            arguments,
            access: lowered.kernel.params.iter().map(|p| p.access).collect(),
            sizes: lowered.kernel.sizes(),
            total: lowered.total.clone(),
            grain: lowered.grain,
            work: lowered.work.clone(),
        }
    }

    pub(super) fn scratch_row(&mut self, dtype: DType, elements: &Dim, row: usize) -> BufferId {
        let known = self
            .scratch
            .iter()
            .find(|(d, e, r, _)| (*d, e, *r) == (dtype, elements, row));
        if let Some((.., id)) = known {
            return *id;
        }
        let name = format!("scratch {row}");
        let id = self.homes.add(name, dtype, elements.clone(), Home::Scratch);
        self.scratch.push((dtype, elements.clone(), row, id));
        id
    }

    fn blocks(&mut self, node: NodeId, dtype: DType, elements: &Dim) -> BufferId {
        let homes = &mut self.homes;
        let live = LiveRange { first: 0, last: 0 };
        let add = || {
            let name = format!("blocks of {node}");
            homes.add(name, dtype, elements.clone(), Home::Arena(live))
        };
        *self.blocks.entry(node).or_insert_with(add)
    }

    fn kernel(&mut self, kernel: &Kernel) -> KernelId {
        self.kernels.push(kernel.clone());
        KernelId::new(self.kernels.len() - 1)
    }

    fn product(&self, shape: &ProductShape, epilogue: Option<Launch>) -> Product {
        let side = |operand: &ProductOperand, is_lhs: bool| {
            let (row_stride, column_stride) = if is_lhs {
                (operand.free.clone(), operand.contract.clone())
            } else {
                (operand.contract.clone(), operand.free.clone())
            };
            Matrix {
                buffer: self.at(operand.base),
                offset: operand.offset.clone(),
                row_stride,
                column_stride,
                batch_strides: operand.batch.clone(),
            }
        };
        Product {
            name: self.name(shape.node, "dot"),
            dtype: shape.dtype,
            accumulate: shape.accumulate,
            summation: shape.summation,
            batch: shape.batch.clone(),
            m: shape.m.clone(),
            n: shape.n.clone(),
            k: shape.k.clone(),
            lhs: side(&shape.lhs, true),
            rhs: side(&shape.rhs, false),
            dst: Matrix {
                buffer: self.at(shape.node),
                offset: Dim::from(0),
                row_stride: shape.n.clone(),
                column_stride: Dim::from(1),
                batch_strides: shape.batch_strides.clone(),
            },
            epilogue,
        }
    }

    fn convolution(&self, shape: &ConvolutionShape, epilogue: Option<Launch>) -> Convolution {
        let view = |of: &Strided| View {
            buffer: self.at(of.base),
            offset: of.offset.clone(),
            strides: of.strides.clone(),
        };
        Convolution {
            name: self.name(shape.node, "conv"),
            dtype: shape.dtype,
            accumulate: shape.accumulate,
            summation: shape.summation,
            batch: shape.batch.clone(),
            groups: shape.groups.clone(),
            features_in: shape.features_in.clone(),
            features_out: shape.features_out.clone(),
            axes: shape.axes.clone(),
            lhs: view(&shape.lhs),
            rhs: view(&shape.rhs),
            dst: View {
                buffer: self.at(shape.node),
                offset: Dim::from(0),
                strides: shape.strides.clone(),
            },
            epilogue,
        }
    }

    pub(super) fn name(&self, node: NodeId, op: &str) -> String {
        match self.graph.node(node) {
            Some(n) if !n.provenance.scope.is_empty() => format!("{}:{op}", n.provenance.scope),
            Some(_) | None => op.into(),
        }
    }
}

/// A kernel that copies elements.
fn copy(dtype: DType, elements: Dim) -> LoweredKernel {
    let (from, to, value, lanes) = (ParamId(0), ParamId(1), ValueId(0), LoopId(0));
    let index = Index::counter(lanes);
    let load = Stmt::Let {
        value,
        expr: Expr::Load {
            param: from,
            index: index.clone(),
            predicate: None,
        },
    };
    let store = Stmt::Store {
        param: to,
        index,
        value,
        predicate: None,
    };
    let param = |access| Param { dtype, access };
    LoweredKernel {
        kernel: Kernel {
            name: "copy".into(),
            params: vec![param(Access::Read), param(Access::Write)],
            values: vec![dtype],
            body: vec![Stmt::Loop(Loop {
                id: lanes,
                extent: elements.clone(),
                kind: LoopKind::Lanes,
                accumulators: Vec::new(),
                body: vec![load, store],
            })],
        },
        params: Vec::new(),
        total: elements,
        grain: 64,
        work: Dim::from(2),
        over: None,
    }
}
