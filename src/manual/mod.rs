//! The manual. Each page is a file in `src/manual` that can be read as it is.
//!
//! Tables of sizes, times, peers and findings are written by the commands next to them, and
//! compared by tests.

/// Declares a page: its line in the list, and the text of its file.
///
/// Of two destinations for one link Markdown takes the first. So a page's links lead to items in
/// rustdoc, and to source files where the page is read as a file.
macro_rules! page {
    ($page:ident, $summary:literal) => {
        #[doc = concat!($summary, "\n\n")]
        #[doc = include_str!("links.md")]
        #[cfg_attr(feature = "async", doc = "[`asynch`]: crate::asynch")]
        #[cfg_attr(feature = "async", doc = "[`asynch::run`]: crate::asynch::run")]
        #[cfg_attr(feature = "async", doc = "[`asynch::serve`]: crate::asynch::serve")]
        #[cfg_attr(
            feature = "async",
            doc = "[`asynch::WithDeadlines`]: crate::asynch::WithDeadlines"
        )]
        #[cfg_attr(feature = "smoltcp", doc = "[`smoltcp::poll`]: crate::smoltcp::poll")]
        #[cfg_attr(
            feature = "smoltcp",
            doc = "[`smoltcp::poll_by`]: crate::smoltcp::poll_by"
        )]
        #[cfg_attr(
            feature = "smoltcp",
            doc = "[`SocketError`]: crate::smoltcp::SocketError"
        )]
        #[cfg_attr(feature = "std", doc = "[`net::Stream`]: crate::net::Stream")]
        #[cfg_attr(all(feature = "std", unix), doc = "[`net::Pool`]: crate::net::Pool")]
        #[doc = ""]
        #[doc = include_str!(concat!(stringify!($page), ".md"))]
        pub mod $page {}
    };
}

page!(
    architecture,
    "The life of an exchange, the way of positions and forces, and what was rejected."
);
page!(
    protocol,
    "The i-PI socket protocol: bytes, conversations, and the traps of its peers."
);
page!(
    arrays,
    "Why raw arrays travel without serialization, and when that breaks."
);
page!(
    deadlines,
    "How long to wait for a peer, and what can be done after a time-out."
);
page!(sizes, "Flash, stack and memory, with C beside it.");
page!(speed, "Time and system calls of an evaluation.");
page!(
    peers,
    "The programs that this crate is tested against, and how to start them."
);
page!(
    conformance,
    "What clumsy and hostile peers do to drivers and servers, ours and others."
);
page!(
    security,
    "What to set before a program meets peers that are not trusted."
);
page!(extending, "How to add a potential, a transport, a board.");
