//! `fuzz-seeds DIR`: writes `DIR/<target>/seeds/*` and `DIR/<target>/words` for libFuzzer.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result};
use troupe_fuzz::seeds;

fn main() -> Result<()> {
    let dir = PathBuf::from(env::args().nth(1).context("usage: fuzz-seeds DIR")?);
    for target in seeds::TARGETS {
        let dir = dir.join(target);
        let seeds = seeds::of(target)?;
        fs::create_dir_all(dir.join("seeds")).context("make the directory of seeds")?;
        for (at, seed) in seeds.iter().enumerate() {
            fs::write(dir.join("seeds").join(format!("{at:03}")), seed).context("write a seed")?;
        }
        fs::write(dir.join("words"), seeds::dictionary(&seeds)).context("write the words")?;
    }
    Ok(())
}
