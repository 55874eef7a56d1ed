//! Finds a word in bytes whatever it is dressed as: by undoing each encoding, not by knowing how the word would look.

/// The disguise in which these bytes hold a word, if they do.
pub fn find(bytes: &[u8], word: &str) -> Option<String> {
    let once = unescaped(bytes);
    let twice = unescaped(&once);
    let bases =
        [("as it is", bytes.to_vec()), ("in JSON", once), ("in JSON twice", twice), ("in a URL", percent(bytes))];
    for (at, (base, bytes)) in bases.iter().enumerate() {
        if bases[..at].iter().any(|(_, before)| before == bytes) {
            continue;
        }
        let plain = bytes.to_ascii_lowercase();
        let word = word.to_ascii_lowercase();
        if memchr::memmem::find(&plain, word.as_bytes()).is_some() {
            return Some((*base).to_owned());
        }
        let views = [
            ("base64", base64(bytes)),
            ("hexadecimal", hex(&plain)),
            ("a list of bytes", decimal(bytes)),
            ("a URL", percent(bytes)),
            ("entities", entities(bytes)),
        ];
        for (view, bytes) in views {
            if memchr::memmem::find(&bytes.to_ascii_lowercase(), word.as_bytes()).is_some() {
                return Some(format!("{base}, {view}"));
            }
        }
    }
    None
}

fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let unit = || {
            let digits = bytes.get(at + 2..at + 6)?;
            char::from_u32(u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?)
        };
        match (bytes[at], bytes.get(at + 1)) {
            (b'\\', Some(b'u')) if unit().is_some() => {
                let mut buffer = [0; 4];
                out.extend_from_slice(unit().unwrap().encode_utf8(&mut buffer).as_bytes());
                at += 6;
            }
            (b'\\', Some(next)) => {
                out.push(*next);
                at += 2;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fn percent(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (bytes[at], digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                at += 1;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fn entities(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    for (name, c) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&#x27;", "'"), ("&amp;", "&")] {
        text = text.replace(name, c);
    }
    text.into_bytes()
}

/// What each long run of such digits says in bytes, from each place where a group may begin: so many bits a digit, first
/// digit first.
fn runs(bytes: &[u8], bits: u32, digit: impl Fn(u8) -> Option<u32>) -> Vec<u8> {
    let mut out = Vec::new();
    let places = if bits == 6 { 4 } else { 2 };
    for run in bytes.split(|byte| digit(*byte).is_none()).filter(|run| run.len() >= 16) {
        for place in 0..places {
            let (mut held, mut width) = (0_u32, 0);
            for value in run[place..].iter().filter_map(|byte| digit(*byte)) {
                held = (held << bits) | value;
                width += bits;
                if width >= 8 {
                    width -= 8;
                    out.push((held >> width) as u8);
                    held &= (1 << width) - 1;
                }
            }
            out.push(0);
        }
    }
    out
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    runs(bytes, 6, |byte| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    })
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    runs(bytes, 4, |byte| char::from(byte).to_digit(16))
}

fn decimal(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in bytes.split(|byte| *byte == b',') {
        let number = std::str::from_utf8(part)
            .ok()
            .and_then(|text| text.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok());
        out.push(number.unwrap_or(0));
    }
    out
}

#[test]
fn a_word_is_found_in_each_disguise_and_nowhere_else() {
    let word = "canary/AbC+9?&x-0123456789";
    let (bytes, padded) = (word.as_bytes(), format!("ab{word}c"));
    let hexed = data_encoding::HEXLOWER.encode(bytes);
    let percented = bytes.iter().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
    let units = bytes.iter().map(|byte| format!("\\\\u{byte:04X}")).collect::<Vec<_>>().concat();
    for disguise in [
        word.to_owned(),
        word.to_uppercase(),
        word.replace('/', "\\/"),
        data_encoding::BASE64.encode(padded.as_bytes()),
        data_encoding::BASE64URL.encode(bytes),
        data_encoding::BASE64.encode(bytes).replace('/', "\\/"),
        hexed.to_uppercase(),
        format!("a{hexed}"),
        format!("{bytes:?}"),
        percented,
        units,
        word.replace('&', "&amp;"),
    ] {
        assert!(find(format!("x \"{disguise}\" y").as_bytes(), word).is_some(), "{disguise}");
    }
    assert_eq!(find(format!("{} {word:.20}", "0123456789".repeat(20)).as_bytes(), word), None);
}
