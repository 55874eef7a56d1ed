//! The encodings in which a secret is searched; the head of the parent module lists them.

use std::fmt::Write as _;

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, Encoding, HEXLOWER, HEXUPPER};
use zeroize::Zeroizing;

/// A secret as some encoder writes it.
pub(super) type Form = Zeroizing<Vec<u8>>;

/// Most bytes that any encoding here makes of one: a character as two escapes, each `\\u00xx` behind another backslash.
const GROWTH: usize = 14;

/// What encoders of URLs leave as it is beside letters and digits: of any part (RFC 3986), of a path, of a component
/// (ECMAScript), of a whole URL (ECMAScript), of a form.
const KEPT: &[&[u8]] = &[b"-._~", b"-._~/", b"-._~!*'()", b"-._~!*'();/?:@&=+$,#", b"*-._"];

/// All forms of a secret, some perhaps more than once.
pub(super) fn of(secret: &str) -> Vec<Form> {
    let mut forms = vec![form(secret.to_owned())];
    forms.push(form(secret.to_ascii_lowercase()));
    forms.push(form(secret.to_ascii_uppercase()));
    for encoding in [BASE64_NOPAD, BASE64URL_NOPAD] {
        forms.extend((0..3).flat_map(|offset| base64(&encoding, secret, offset)));
    }
    forms.extend([HEXLOWER.encode(secret.as_bytes()), HEXUPPER.encode(secret.as_bytes())].map(form));
    forms.extend([", ", ","].map(|between| decimal(secret, between)));
    for kept in KEPT {
        forms.extend([false, true].map(|lower| percent(secret, lower, |byte| plain(byte) || kept.contains(&byte))));
    }
    forms.extend([false, true].map(|lower| percent(secret, lower, |_| false)));
    // Forms write a space as a plus sign.
    let spaced: Vec<Form> = forms.iter().filter(|form| form.windows(3).any(|three| three == b"%20")).cloned().collect();
    forms.extend(spaced.into_iter().map(|form| replaced(&form, "%20", "+")));
    forms.extend(json(secret).flat_map(|once| {
        let twice = json_short(&once, false);
        [form(twice), as_form(once)]
    }));
    forms.extend(entities(secret));
    forms
}

fn form(text: String) -> Form {
    Zeroizing::new(text.into_bytes())
}

fn as_form(mut text: Zeroizing<String>) -> Form {
    form(std::mem::take(&mut *text))
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// Room for any encoding of a secret, so that no half-written copy is left behind.
fn room(secret: &str) -> String {
    String::with_capacity(secret.len() * GROWTH)
}

fn replaced(form: &[u8], from: &str, to: &str) -> Form {
    self::form(std::str::from_utf8(form).unwrap_or_default().replace(from, to))
}

/// The characters that the secret alone decides where so many bytes of a group of three come before it; also as they
/// stand in JSON and in URLs.
fn base64(encoding: &Encoding, secret: &str, offset: usize) -> Vec<Form> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(offset + secret.len()));
    bytes.resize(offset, 0);
    bytes.extend_from_slice(secret.as_bytes());
    let whole = form(encoding.encode(&bytes));
    let (first, last) = ((offset * 8).div_ceil(6), bytes.len() * 8 / 6);
    let inner = Zeroizing::new(whole[first..last].to_vec());
    let mut forms = Vec::new();
    if inner.contains(&b'/') {
        forms.push(replaced(&inner, "/", "\\/"));
    }
    if inner.iter().any(|byte| matches!(byte, b'/' | b'+')) {
        for lower in [false, true] {
            let text = std::str::from_utf8(&inner).unwrap_or_default();
            forms.push(percent(text, lower, |byte| byte != b'/' && byte != b'+'));
        }
    }
    forms.push(inner);
    forms
}

fn decimal(secret: &str, between: &str) -> Form {
    let mut out = room(secret);
    for (at, byte) in secret.bytes().enumerate() {
        out.push_str(if at == 0 { "" } else { between });
        let _ = write!(out, "{byte}");
    }
    form(out)
}

fn percent(secret: &str, lower: bool, kept: impl Fn(u8) -> bool) -> Form {
    let mut out = room(secret);
    for byte in secret.bytes() {
        // What is kept is ASCII.
        let _ = match (kept(byte), lower) {
            (true, _) => write!(out, "{}", char::from(byte)),
            (false, true) => write!(out, "%{byte:02x}"),
            (false, false) => write!(out, "%{byte:02X}"),
        };
    }
    form(out)
}

/// The inside of a JSON string, as encoders write it.
fn json(secret: &str) -> impl Iterator<Item = Zeroizing<String>> {
    let styles = [(false, false), (false, true), (true, false), (true, true)].map(|(lower, all)| {
        let unsafe_in_html = |c: char| "<>&'\"=+/`".contains(c);
        [
            // ASCII only, or every character.
            json_units(secret, lower, |c| all || !c.is_ascii()),
            // What could end a script or an attribute; some leave the sign of equality and the plus.
            json_units(secret, lower, move |c| if all { unsafe_in_html(c) } else { "<>&".contains(c) }),
            json_units(secret, lower, move |c| if all { "<>&'".contains(c) } else { "<>&'=".contains(c) }),
        ]
    });
    let short = [false, true].map(|slash| Zeroizing::new(json_short(secret, slash)));
    short.into_iter().chain(styles.into_iter().flatten())
}

/// Only what must be escaped is, and the slash where wanted.
fn json_short(text: &str, slash: bool) -> String {
    let mut out = room(text);
    for c in text.chars() {
        if matches!(c, '"' | '\\') || (slash && c == '/') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// These characters as UTF-16 units, and the others as they must be.
fn json_units(text: &str, lower: bool, escaped: impl Fn(char) -> bool) -> Zeroizing<String> {
    let mut out = Zeroizing::new(room(text));
    for c in text.chars() {
        if escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = if lower { write!(out, "\\u{unit:04x}") } else { write!(out, "\\u{unit:04X}") };
            }
        } else {
            out.push_str(&json_short(c.encode_utf8(&mut [0; 4]), false));
        }
    }
    out
}

/// In HTML and XML, whose writers differ in what they do to quotes.
fn entities(secret: &str) -> impl Iterator<Item = Form> {
    let quotes = [("\"", "'"), ("&quot;", "'"), ("&quot;", "&#39;"), ("&quot;", "&#x27;"), ("&quot;", "&apos;")];
    quotes.into_iter().chain([("&#34;", "&#39;")]).map(|(double, single)| {
        let mut out = room(secret);
        for c in secret.chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str(double),
                '\'' => out.push_str(single),
                _ => out.push(c),
            }
        }
        form(out)
    })
}
