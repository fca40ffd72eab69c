//! Registers as an oops or a debugger prints them.

/// The registers that an oops or gdb's `info registers` prints, by the names that they have in code.
pub(super) fn registers(text: &str) -> Vec<(String, u64)> {
    let mut found: Vec<(String, u64)> = vec![];
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let (name, attached) = word.split_once(':').unwrap_or((word, ""));
        // `GS:ffff88810e000000(0000)`
        if let (Some(name), false) = (register(name, true), attached.is_empty())
            && let Some(Ok(value)) = attached
                .split('(')
                .next()
                .map(|digits| u64::from_str_radix(digits, 16))
            && attached.len() >= 8
            && found.iter().all(|(known, _)| *known != name)
        {
            found.push((name, value));
            continue;
        }
        let (name, is_oops) = match word.strip_suffix(':') {
            Some(name) => (name, true),
            None => (word, false),
        };
        let Some(name) = register(name, is_oops) else {
            continue;
        };
        let Some(value) = words.peek() else { break };
        // `0018:ffffc90000123b48`, `00007f0000000000(0000)`
        let value = value.rsplit(':').next().unwrap_or(value);
        let value = value.split('(').next().unwrap_or(value);
        let digits = match (is_oops, value.strip_prefix("0x")) {
            (true, None) if value.len() >= 8 => value,
            (_, Some(digits)) => digits,
            _ => continue,
        };
        if let Ok(value) = u64::from_str_radix(digits, 16)
            && found.iter().all(|(known, _)| *known != name)
        {
            found.push((name, value));
        }
    }
    found
}

fn register(name: &str, is_oops: bool) -> Option<String> {
    const NAMES: [&str; 19] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15", "eflags", "fs_base", "gs_base",
    ];
    let lower = name.to_ascii_lowercase();
    let is_upper = name.bytes().all(|byte| !byte.is_ascii_lowercase());
    if is_oops != is_upper {
        return None;
    }
    let name = match &*lower {
        "r08" => "r8",
        "r09" => "r9",
        "fs" if is_oops => "fs_base",
        "gs" if is_oops => "gs_base",
        other => other,
    };
    NAMES.contains(&name).then(|| name.to_owned())
}

/// Without the lines that hold nothing but registers.
pub(super) fn without_registers(text: &str) -> String {
    let is_other = |line: &&str| registers(line).is_empty();
    text.lines().filter(is_other).collect::<Vec<_>>().join("\n")
}
