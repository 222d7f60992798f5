// Calls the shared library from Rust, by declarations that bindgen made: a task, its result, a failure.
#![allow(non_camel_case_types, non_upper_case_globals, dead_code, improper_ctypes)]
mod tpool {
    include!("tpool.rs");
}
use std::ffi::CStr;
use std::os::raw::c_void;
use std::ptr;

unsafe extern "C" fn double(arg: *mut c_void) -> *mut c_void {
    (2 * arg as usize) as *mut c_void
}
unsafe extern "C" fn fail(_arg: *mut c_void) -> *mut c_void {
    tpool::tpool_raise(7, b"no luck\0".as_ptr() as *const _)
}

fn main() {
    unsafe {
        let mut pool = ptr::null_mut();
        assert_eq!(tpool::tpool_create(&mut pool, ptr::null()), tpool::tpool_status_TPOOL_OK);
        let mut future = ptr::null_mut();
        let mut result = ptr::null_mut();
        assert_eq!(tpool::tpool_submit(pool, Some(double), 21 as *mut c_void, &mut future), tpool::tpool_status_TPOOL_OK);
        assert_eq!(tpool::tpool_future_result(future, i64::MAX, &mut result), tpool::tpool_status_TPOOL_OK);
        assert_eq!(result as usize, 42);
        tpool::tpool_future_release(future);
        assert_eq!(tpool::tpool_submit(pool, Some(fail), ptr::null_mut(), &mut future), tpool::tpool_status_TPOOL_OK);
        assert_eq!(tpool::tpool_future_result(future, i64::MAX, &mut result), tpool::tpool_status_TPOOL_FAILED);
        assert_eq!(CStr::from_ptr(tpool::tpool_future_message(future)).to_str(), Ok("no luck"));
        tpool::tpool_future_release(future);
        assert_eq!(tpool::tpool_destroy(pool), tpool::tpool_status_TPOOL_OK);
        println!("{} from Rust", CStr::from_ptr(tpool::tpool_version()).to_str().unwrap());
    }
}
