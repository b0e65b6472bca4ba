//! Help, completions and complaints word for word. `TRYCMD=overwrite` writes them anew.

#[test]
fn texts_are_as_they_were() {
    trycmd::TestCases::new().case("tests/texts/*.trycmd");
}
