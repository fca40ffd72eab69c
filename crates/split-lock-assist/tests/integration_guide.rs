//! The guide says what the example does.

const GUIDE: &str = include_str!("../../../docs/integration.md");
const EXAMPLE: &str = include_str!("../examples/run_loop.rs");

/// The lines of each block of Rust code.
fn blocks() -> Vec<Vec<&'static str>> {
    let (mut blocks, mut inside) = (vec![], false);
    for line in GUIDE.lines() {
        match line {
            "```rust,ignore" => {
                inside = true;
                blocks.push(vec![]);
            }
            "```" => inside = false,
            line if inside => blocks.last_mut().unwrap().push(line.trim()),
            _ => {}
        }
    }
    blocks
}

#[test]
fn every_block_of_the_guide_is_in_the_example() {
    let example: Vec<&str> = EXAMPLE.lines().map(str::trim).collect();
    let blocks = blocks();
    assert!(blocks.len() > 3);
    for block in blocks {
        let found = example
            .windows(block.len())
            .any(|lines| lines == block.as_slice());
        assert!(found, "not in the example:\n{}", block.join("\n"));
    }
}

#[test]
fn a_vmm_adds_at_most_30_lines_for_timer_and_guard() {
    let lines: usize = blocks().iter().map(Vec::len).sum();
    assert!(lines <= 30, "{lines}");
}
