//! A language model of characters: a table of vectors, one LSTM, and a dense layer at each step. The same layers make the graph that learns
//! from windows of text and the one that goes on with a text, a character a step.

use kiln::ir::Diagnostics;
use kiln::nn::{Dense, Embedding, Given, Lstm};
use kiln::{Builder, Context, DType, Graph, Init, Layer, Tensor};

/// The sizes of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CharLstm {
    /// How many characters there are.
    pub(crate) vocabulary: i64,
    /// The features of a character.
    pub(crate) features: i64,
    /// The units of the LSTM.
    pub(crate) units: i64,
}

impl CharLstm {
    fn embedding(&self) -> Embedding {
        Embedding::new(self.vocabulary, self.features).weight(Init::normal(0.1))
    }

    fn lstm(&self) -> Lstm {
        Lstm::new(self.units).return_sequences()
    }

    fn head(&self) -> Dense {
        Dense::new(self.vocabulary)
    }

    /// The step that writes: takes one character, `x: u32[1, 1]`, remembers `h` and `c` as states, and gives the `logits` of the next one.
    pub(crate) fn writing(&self) -> Result<Graph, Diagnostics> {
        let g = Builder::new("writing");
        let x = g.input("x", DType::U32, (1, 1));
        let state = |name: &str| g.state(name, DType::F32, (1, self.units), Init::zeros());
        let before = vec![state("h"), state("c")];
        let cx = Context::inference(&g);
        let x = cx.layer("tokens", &self.embedding(), x);
        let y = cx.within("lstm", "lstm", |cx| {
            let given = Given {
                initial: Some(before.clone()),
                ..Given::default()
            };
            let sequence = self.lstm().sequence(cx, x, &given);
            for (before, after) in before.iter().zip(sequence.states) {
                g.update(*before, after);
            }
            sequence.outputs
        });
        let logits = cx.layer("head", &self.head(), y);
        g.output("logits", logits.reshape([self.vocabulary]));
        g.finish()
    }
}

/// Characters `[b, t]` to logits `[b, t, vocabulary]`.
impl Layer for CharLstm {
    fn kind(&self) -> &str {
        "char_lstm"
    }

    fn apply<'g>(&self, cx: &Context<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let x = cx.layer("tokens", &self.embedding(), x);
        let x = cx.layer("lstm", &self.lstm(), x);
        cx.layer("head", &self.head(), x)
    }
}
