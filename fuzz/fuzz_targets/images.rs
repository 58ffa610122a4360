//! A picture in the folder of a class: what is read has the size that was asked for.
#![no_main]

use kiln_train::data::{Channels, image_folder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = std::env::temp_dir().join(format!("kiln-fuzz-{}", std::process::id()));
    let class = folder.join("class");
    std::fs::create_dir_all(&class).expect("the folder for temporary files can be written");
    std::fs::write(class.join("a.png"), bytes).expect("a file can be written");
    for (channels, depth) in [(Channels::Grey, 1), (Channels::Rgb, 3)] {
        if let Ok((data, _)) = image_folder(&folder, [3, 2], channels) {
            let x = data.column("x").expect("the pictures");
            assert_eq!(x.shape(), [1, 3, 2, depth]);
        }
    }
});
