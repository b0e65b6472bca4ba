mod elements;
mod number;
mod sent;
mod units;
mod xyz;
fn main() {}
