fn nothing_yet() {}
