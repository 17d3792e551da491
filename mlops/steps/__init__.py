"""One module per step, one public function of the same name; no step imports another."""
