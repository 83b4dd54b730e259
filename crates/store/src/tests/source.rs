//! SQLite numbers `$n` by where it first appears, PostgreSQL by its digits: in one SQL text
//! both must agree.

use std::path::Path;

#[test]
fn parameters_appear_in_the_order_of_their_numbers() {
    let mut checked = 0;
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |path, text| {
        for literal in text.split('"').skip(1).step_by(2).filter(|one| one.contains("$1")) {
            let mut seen: Vec<u32> = Vec::new();
            for part in literal.split('$').skip(1) {
                let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
                if let Ok(number) = digits.parse()
                    && !seen.contains(&number)
                {
                    seen.push(number);
                }
            }
            assert!(seen.is_sorted(), "{}: {literal}", path.display());
            checked += 1;
        }
    });
    assert!(checked > 20, "only {checked} statements were found");
}

fn walk(folder: &Path, check: &mut impl FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().unwrap() != "tests" {
                walk(&path, check);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            check(&path, &std::fs::read_to_string(&path).unwrap());
        }
    }
}
