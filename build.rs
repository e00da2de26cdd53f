//! Link arguments of the addon.

fn main() {
    #[cfg(feature = "node")]
    napi_build::setup();
    // Node unmaps an addon when the last worker that loaded it ends. Threads of our runtime would
    // then run code that is gone; `nodelete` keeps the library mapped for the life of the process.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
