use std::io::Write as _;

use zip::{CompressionMethod, write::SimpleFileOptions};

use super::*;
use crate::made::{SKILL, files, zipped};

/// The same bytes with another name of the same length in it: writers refuse some names.
fn renamed(mut zip: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let found: Vec<usize> =
        (0..zip.len()).filter(|at| zip[*at..].starts_with(from.as_bytes())).collect();
    assert_eq!(found.len(), 2, "once before the file, once in the directory");
    for at in found {
        zip[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    zip
}

fn refused(zip: &[u8]) -> String {
    read(zip).expect_err("it is refused").to_string()
}

#[test]
fn a_package_is_a_folder_with_its_description() {
    let zip = zipped(|zip| {
        let options = SimpleFileOptions::default();
        zip.add_directory("count/", options).unwrap();
        zip.start_file("count/SKILL.md", options).unwrap();
        zip.write_all(b"\xef\xbb\xbf---\r\ndescription: counts\r\n--- \r\n# Count\r\n").unwrap();
        let stored = options.compression_method(CompressionMethod::Stored);
        zip.start_file("count/scripts/a.py", stored.unix_permissions(0o755)).unwrap();
        zip.write_all(b"print(1)").unwrap();
    });
    let (folder, front, text) = ("count".into(), "description: counts".into(), "# Count".into());
    assert_eq!(read(&zip).unwrap(), Package { folder, front, text });
}

#[test]
fn no_path_leads_out_of_the_folder() {
    let zip = files(&[("a/SKILL.md", SKILL.as_bytes()), ("a/bb/ccc.txt", b"x")]);
    read(&zip).unwrap();
    for to in [
        "a/../../c.tx",
        "/etc/passwdx",
        "a/bb\\ccc.txt",
        "C:/bb/cc.txt",
        "a/bb//cc.txt",
        "a/./bb/c.txt",
        "a/bb/c\nc.txt",
    ] {
        let said = refused(&renamed(zip.clone(), "a/bb/ccc.txt", to));
        assert!(said.contains("a path must be relative"), "{to}: {said}");
        assert!(!said.contains('\n'), "{said}");
    }
    let long = format!("a/{}", "x".repeat(PATH_BYTES_MAX));
    assert!(refused(&files(&[(&long, b"x")])).contains("longer than 255"));
}

#[test]
fn links_and_doubles_are_refused_by_name() {
    let link = zipped(|zip| {
        zip.start_file("a/SKILL.md", SimpleFileOptions::default()).unwrap();
        zip.write_all(SKILL.as_bytes()).unwrap();
        zip.add_symlink("a/out", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    });
    assert!(refused(&link).contains("`a/out` is neither a file nor a folder"));
    let twice = files(&[("a/SKILL.md", SKILL.as_bytes()), ("a/skill.md", b"x")]);
    assert!(refused(&twice).contains("`a/skill.md` is there twice"));
    let main = ("a/SKILL.md", SKILL.as_bytes());
    let doubled = renamed(files(&[main, ("a/one", b"1"), ("a/two", b"2")]), "a/two", "a/one");
    assert!(refused(&doubled).contains("a path is there twice"));
}

#[test]
fn there_is_one_top_folder_and_a_description_in_it() {
    let main = ("a/SKILL.md", SKILL.as_bytes());
    assert!(refused(&files(&[main, ("b/x", b"")])).contains("it has `a`, `b`"));
    assert!(refused(&files(&[main, ("x", b"")])).contains("the file `x`"));
    assert!(refused(&files(&[("a/x", b"")])).contains("there is no `a/SKILL.md`"));
    assert!(refused(&files(&[("a/b/SKILL.md", b"")])).contains("there is no `a/SKILL.md`"));
    assert!(refused(&files(&[])).contains("none"));
    let said = |text: &[u8]| refused(&files(&[("a/SKILL.md", text)]));
    assert!(said(b"# Count").contains("`a/SKILL.md`: it has no front matter"));
    assert!(said(b"---\ndescription: x\n").contains("does not end"));
    assert!(said(b"---\n\xff\n---\n").contains("not UTF-8"));
}

#[test]
fn sizes_are_those_that_were_unpacked() {
    assert!(refused(b"PK\x03\x04 nonsense").contains("no ZIP"));
    assert!(read(&vec![0; PACKAGE_BYTES_MAX + 1]).unwrap_err().is_size());
    let bomb = files(&[("a/SKILL.md", SKILL.as_bytes()), ("a/bomb", &vec![0; 4 << 20])]);
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    assert!(refused(&bomb).contains("`a/bomb` grows to more than 100 times"));
    let many = zipped(|zip| {
        for n in 0..=ENTRIES_MAX {
            zip.start_file(format!("a/{n}"), SimpleFileOptions::default()).unwrap();
        }
    });
    assert!(refused(&many).contains("1001 files"));
    // Each within its ratio, and too large together.
    let noise = |n: u32| u8::from(n.wrapping_mul(2_654_435_761) >> 31 == 0);
    let noise: Vec<u8> = (0..1_200_000_u32).map(|n| noise(n / 16)).collect();
    let zip = zipped(|zip| {
        for n in 0..44 {
            zip.start_file(format!("a/{n}"), SimpleFileOptions::default()).unwrap();
            zip.write_all(&noise).unwrap();
        }
    });
    assert!(refused(&zip).contains("larger than 50 MiB"), "{}", zip.len());
    let long = format!("---\ndescription: x\n---\n{}", "x".repeat(300_000));
    assert!(refused(&files(&[("a/SKILL.md", long.as_bytes())])).contains("200,000 bytes"));
}

#[test]
fn what_is_damaged_is_named() {
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = zipped(|zip| {
        zip.start_file("a/SKILL.md", stored).unwrap();
        zip.write_all(SKILL.as_bytes()).unwrap();
    });
    let at = zip.windows(6).position(|part| part == b"counts").unwrap();
    zip[at] = b'C';
    assert!(refused(&zip).contains("`a/SKILL.md` cannot be unpacked"));
}
