//! Going on with a sequence: a token a step gives the logits that the whole sequence gives, and costs no copy of what is remembered.

use kiln::ir::Diagnostics;
use kiln::nn::{
    Continuation, Embedding, FeedForward, LearnedPositions, Lstm, MultiHeadAttention, RmsNorm,
    SwiGlu, TransformerBlock,
};
use kiln::train::graphs::{continuation, prediction};
use kiln::train::{Writer, hand_over};
use kiln::{
    Bindings, Builder, Context, DType, Feed, Graph, Init, Layer, Options, Session, Tensor,
    TensorType, compile,
};

const VOCABULARY: usize = 17;
const CONTEXT: usize = 12;
const WIDTH: i64 = 24;

/// A decoder whose weights are large enough that attention is far from even.
struct Model {
    block: TransformerBlock,
    learned_positions: bool,
}

impl Layer for Model {
    fn kind(&self) -> &str {
        "model"
    }

    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let tokens = Embedding::new(VOCABULARY as i64, WIDTH).weight(Init::normal(1.0));
        let mut x = cx.layer("tokens", &tokens, x);
        if self.learned_positions {
            let positions = LearnedPositions::new(CONTEXT as i64).weight(Init::normal(1.0));
            x = cx.layer("positions", &positions, x);
        }
        for name in ["block_0", "block_1"] {
            x = cx.layer(name, &self.block, x);
        }
        let head = |cx: &Context<'g>| tokens.logits(cx, x);
        cx.sharing().within("tokens", "head", head)
    }
}

/// GPT's form, and Llama's with grouped queries.
fn models() -> [Model; 2] {
    let attention = || MultiHeadAttention::new(4).causal();
    let gpt = TransformerBlock::new(attention(), FeedForward::new(40));
    let llama = TransformerBlock::new(
        attention().kv_heads(2).rotary().without_bias(),
        SwiGlu::new(32),
    );
    [
        Model {
            block: gpt,
            learned_positions: true,
        },
        Model {
            block: llama.norm(RmsNorm::new()),
            learned_positions: false,
        },
    ]
}

fn session(graph: &Graph) -> Session {
    let executable = compile(graph, &Options::default()).unwrap();
    executable.session(5).unwrap()
}

/// Tokens of a text longer than the context.
fn text() -> Vec<u32> {
    (0..2 * CONTEXT as u32)
        .map(|i| (i * i + 3 * i + 1) % VOCABULARY as u32)
        .collect()
}

/// The logits of a whole sequence, `[t, vocabulary]` in a row, and the session that computed them.
fn whole(model: &Model, tokens: &[u32]) -> (Vec<f32>, Session) {
    let ty = TensorType::new(DType::U32, (1, tokens.len()));
    let mut session = session(&prediction(model, &ty).unwrap());
    let shape = [1, tokens.len()];
    let feed = Feed::new(tokens, &shape);
    let logits = session
        .step(&[feed])
        .unwrap()
        .as_slice::<f32>(0)
        .unwrap()
        .to_vec();
    (logits, session)
}

fn close(found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len());
    let size = wanted.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
    for (x, y) in found.iter().zip(wanted) {
        assert!((x - y).abs() < 1e-5 * size, "{found:?}\n{wanted:?}");
    }
}

#[test]
fn a_token_a_step_gives_the_logits_of_the_whole_sequence() {
    for model in models() {
        let tokens = &text()[..CONTEXT];
        let (wanted, given) = whole(&model, tokens);
        let mut writer = Writer::new(session(&continuation(&model, CONTEXT).unwrap()), CONTEXT);
        hand_over(&given, writer.session_mut()).unwrap();
        // What was remembered of the text before is not seen in the next one.
        for _ in 0..2 {
            writer.begin();
            for (token, wanted) in tokens.iter().zip(wanted.chunks(VOCABULARY)) {
                close(writer.read(*token).unwrap(), wanted);
            }
        }
    }
}

#[test]
fn a_full_context_begins_anew_with_its_last_half() {
    for model in models() {
        let text = text();
        let mut writer = Writer::new(session(&continuation(&model, CONTEXT).unwrap()), CONTEXT);
        let mut given = None;
        for (i, token) in text.iter().enumerate() {
            // The first token of a window: 0 at first, then half a context before each token for which there was no room.
            let start = (i + 1).saturating_sub(CONTEXT).div_ceil(CONTEXT / 2) * (CONTEXT / 2);
            let (wanted, whole) = whole(&model, &text[start..=i]);
            let first = given.is_none();
            let given = given.get_or_insert(whole);
            if first {
                hand_over(given, writer.session_mut()).unwrap();
            }
            close(
                writer.read(*token).unwrap(),
                &wanted[wanted.len() - VOCABULARY..],
            );
        }
    }
}

/// A step of three tokens of two sequences.
fn threes(model: &Model) -> Result<Graph, Diagnostics> {
    let g = Builder::new("threes");
    let x = g.input("x", DType::U32, (2, 3));
    let at = Continuation::new(g.input("position", DType::I32, ()), 3, CONTEXT as i64);
    let cx = Context::training(&g).continuing(at);
    g.output("logits", model.apply(&cx, x));
    g.finish()
}

#[test]
fn several_tokens_of_several_sequences_go_on_together() {
    for model in models() {
        let text = text();
        let (first, given) = whole(&model, &text[..CONTEXT]);
        let (second, _) = whole(&model, &text[CONTEXT..]);
        let mut session = session(&threes(&model).unwrap());
        hand_over(&given, &mut session).unwrap();
        let row = 3 * VOCABULARY;
        for at in (0..CONTEXT).step_by(3) {
            let tokens = [&text[at..at + 3], &text[CONTEXT + at..CONTEXT + at + 3]].concat();
            let position = at as i32;
            let feeds = [Feed::new(&tokens, &[2, 3]), Feed::scalar(&position)];
            let outputs = session.step(&feeds).unwrap();
            let found = outputs.as_slice::<f32>(0).unwrap();
            let here = at * VOCABULARY..at * VOCABULARY + row;
            close(&found[..row], &first[here.clone()]);
            close(&found[row..], &second[here]);
        }
        // There is no room for a third token at 10, and nothing before 0.
        for position in [10, -1] {
            let keys = session
                .state("block_0/attention/keys")
                .unwrap()
                .bytes()
                .to_vec();
            let feeds = [Feed::new(&[1_u32; 6], &[2, 3]), Feed::scalar(&position)];
            let error = session.step(&feeds).unwrap_err().to_string();
            assert!(error.contains("begin anew at 0"), "{error}");
            assert_eq!(
                session.state("block_0/attention/keys").unwrap().bytes(),
                keys
            );
        }
    }
}

#[test]
fn a_step_copies_no_cache() {
    let [_, model] = models();
    let context = 4096;
    let graph = continuation(&model, context).unwrap();
    let executable = compile(&graph, &Options::default()).unwrap();
    // Keys and values of two blocks, two heads of 6 features each.
    let cache = 2 * context * 6 * 4;
    let memory = executable.memory_with(&Bindings::new(), 1).unwrap();
    assert_eq!(memory.state, 4 * cache);
    assert!(memory.arena < cache, "{memory:?}");
    let text = executable.program().to_string();
    let written: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("dynamic_update_slice("))
        .collect();
    assert_eq!(written.len(), 4, "{text}");
    // In place: nothing but the rows of the token, two operations an element.
    for line in written {
        assert!(line.contains("dynamic_update_slice(update $"), "{line}");
        assert!(line.ends_with("over 2, work 12"), "{line}");
    }
}

#[test]
fn what_cannot_go_on_is_refused() {
    let refused = |layer: &dyn Layer, context: i64, tokens: i64, wanted: &str| {
        let g = Builder::new("refused");
        let x = g.input("x", DType::F32, (1, 2, 24));
        let at = Continuation::new(g.input("position", DType::I32, ()), tokens, context);
        Context::inference(&g).continuing(at).layer("l", layer, x);
        let found = g.finish().unwrap_err().to_string();
        assert!(found.contains(wanted), "{found}");
    };
    let attention = || MultiHeadAttention::new(4);
    refused(
        &attention(),
        12,
        2,
        "an attention that is not causal goes on",
    );
    refused(
        &attention().causal(),
        12,
        3,
        "a step of this continuation has 3",
    );
    refused(&attention().causal(), 1, 2, "in a context of 1");
    let positions = LearnedPositions::new(11);
    refused(&positions, 12, 2, "`learned_positions` of 11 vectors");
    refused(
        &Lstm::new(3),
        12,
        2,
        "`lstm` goes on with a sequence from nothing",
    );
    let symbolic = Builder::new("symbolic");
    let x = symbolic.input("x", DType::F32, (symbolic.dim("b"), 2, 24));
    let position = symbolic.input("position", DType::I64, ());
    let wrong = Continuation::new(position, 2, 12);
    Context::inference(&symbolic).continuing(wrong);
    let position = symbolic.input("at", DType::I32, ());
    let cx = Context::inference(&symbolic).continuing(Continuation::new(position, 2, 12));
    cx.layer("l", &attention().causal(), x);
    let found = symbolic.finish().unwrap_err().to_string();
    assert!(found.contains("the position is one i32[]"), "{found}");
    assert!(found.contains("states have fixed sizes"), "{found}");
}
