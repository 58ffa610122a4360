//! Files of tokenizers: our own vocabularies, and those of Hugging Face. Tokens of a text that a vocabulary of characters has give the text.
#![no_main]

use kiln_train::data::text::{Characters, HuggingFace, Tokenizer};
use libfuzzer_sys::fuzz_target;

const TEXT: &str = "the  theat\né";

// The library behind `HuggingFace` panics on some files, which is caught; what is not caught still ends the run.
fuzz_target!(init: std::panic::set_hook(Box::new(|info| eprintln!("{info}"))), |bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("kiln-fuzz-{}.json", std::process::id()));
    std::fs::write(&path, bytes).expect("the folder for temporary files can be written");
    if let Ok(characters) = Characters::load(&path) {
        let text: String = characters.characters().iter().collect();
        let tokens = characters.encode(&text).expect("its own characters");
        assert_eq!(characters.decode(&tokens).expect("its own tokens"), text);
    }
    if let Ok(tokenizer) = HuggingFace::load(&path) {
        let vocabulary = tokenizer.vocabulary();
        if let Ok(tokens) = tokenizer.encode(TEXT) {
            assert!(tokens.iter().all(|token| (*token as usize) < vocabulary));
            let _text = tokenizer.decode(&tokens);
        }
    }
});
