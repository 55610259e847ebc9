//! Numbers as ECMAScript writes them (ECMA-262, Number::toString; RFC 8785, section 3.2.2.3).

/// The shortest decimal that reads back as the same number; `None` for what is no number.
pub(crate) fn text(value: f64) -> Option<String> {
    if !value.is_finite() {
        return None;
    }
    if value == 0.0 {
        // The negative zero as well.
        return Some("0".to_owned());
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let scientific = format!("{:e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e')?;
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let digits = even_of_two(value.abs(), &digits, exponent).unwrap_or(digits);
    let point = exponent.parse::<i32>().ok()? + 1;
    Some(format!("{sign}{}", place(&digits, point)))
}

/// A double has at most so many significant digits.
const EXACT_DIGITS: usize = 767;

/// Where two shortest decimals are equally near, ECMAScript wants the even one, and the standard library takes the
/// larger. `None` where there is one, or it is even already.
fn even_of_two(value: f64, digits: &str, exponent: &str) -> Option<String> {
    let exact = format!("{value:.EXACT_DIGITS$e}");
    let exact: String = exact.split('e').next()?.chars().filter(|c| *c != '.').collect();
    let (lower, rest) = exact.split_at_checked(digits.len())?;
    let tie = rest.starts_with('5') && rest[1..].bytes().all(|digit| digit == b'0');
    let even = lower.bytes().last().is_some_and(|digit| digit % 2 == 0);
    let reads_back = || {
        let (first, more) = lower.split_at(1);
        format!("{first}.{more}e{exponent}").parse() == Ok(value)
    };
    (tie && even && reads_back()).then(|| lower.to_owned())
}

/// Digits with the decimal point behind the first `point` of them, which may lie outside.
fn place(digits: &str, point: i32) -> String {
    let count = digits.len() as i32;
    let zeros = |count: i32| "0".repeat(count.unsigned_abs() as usize);
    match point {
        1..=21 if count <= point => format!("{digits}{}", zeros(point - count)),
        1..=21 => {
            let (whole, rest) = digits.split_at(point.unsigned_abs() as usize);
            format!("{whole}.{rest}")
        }
        -5..=0 => format!("0.{}{digits}", zeros(point)),
        _ => {
            let (first, rest) = digits.split_at(1);
            let dot = if rest.is_empty() { "" } else { "." };
            format!("{first}{dot}{rest}e{:+}", point - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8785, appendix B.
    const VECTORS: &[(u64, &str)] = &[
        (0x0000_0000_0000_0000, "0"),
        (0x8000_0000_0000_0000, "0"),
        (0x0000_0000_0000_0001, "5e-324"),
        (0x8000_0000_0000_0001, "-5e-324"),
        (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
        (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
        (0x4340_0000_0000_0000, "9007199254740992"),
        (0xc340_0000_0000_0000, "-9007199254740992"),
        (0x4430_0000_0000_0000, "295147905179352830000"),
        (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
        (0x44b5_2d02_c7e1_4af6, "1e+23"),
        (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
        (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
        (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
        (0x444b_1ae4_d6e2_ef50, "1e+21"),
        (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
        (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
        (0x41b3_de43_5555_5553, "333333333.3333332"),
        (0x41b3_de43_5555_5554, "333333333.33333325"),
        (0x41b3_de43_5555_5555, "333333333.3333333"),
        (0x41b3_de43_5555_5556, "333333333.3333334"),
        (0x41b3_de43_5555_5557, "333333333.33333343"),
        (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
    ];

    #[test]
    fn numbers_are_those_of_the_rfc() {
        for (bits, expected) in VECTORS {
            assert_eq!(text(f64::from_bits(*bits)).as_deref(), Some(*expected), "{bits:016x}");
        }
        for no_number in [0x7fff_ffff_ffff_ffff, 0x7ff0_0000_0000_0000, 0xfff0_0000_0000_0000] {
            assert_eq!(text(f64::from_bits(no_number)), None);
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut state: u64 = 42;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = f64::from_bits(state);
            if let Some(text) = text(value) {
                assert_eq!(text.parse::<f64>().unwrap(), value, "{text}");
            }
        }
    }
}
