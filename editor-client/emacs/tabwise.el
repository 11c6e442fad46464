;;; tabwise.el --- Tabwise beside any other Python server -*- lexical-binding: t -*-

;; Load this from init.el.

;; With lsp-mode 10: ghost text. TAB takes it, C-n and C-p show others after
;; M-x lsp-inline-completion-display. Older ones have it as an item of the popup.
(with-eval-after-load 'lsp-mode
  (lsp-register-client
   (make-lsp-client
    :new-connection (lsp-stdio-connection '("tabwise" "lsp"))
    :activation-fn (lsp-activate-on "python")
    :add-on? t
    :server-id 'tabwise))
  (when (require 'lsp-inline-completion nil t)
    (setq lsp-inline-completion-idle-delay 0.2)
    (define-key lsp-inline-completion-active-map (kbd "TAB")
                #'lsp-inline-completion-accept)))

;; With eglot, which has no ghost text and one server a buffer: M-x completion-at-point.
(with-eval-after-load 'eglot
  (add-to-list 'eglot-server-programs
               '((python-mode python-ts-mode) . ("tabwise" "lsp"))))
;;; tabwise.el ends here
